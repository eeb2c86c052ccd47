// The page: who asks, which view is shown, and what is missing before anything can be asked.

import { html, render, useEffect, useRef, useState } from "./vendor/preact-htm.js";
import { events, get, keepKey, key } from "./lib/api.js";
import { Line } from "./lib/parts.js";
import { setModels } from "./lib/pictures.js";
import { setOwner } from "./lib/conversations.js";
import { choose, language, t } from "./lib/words.js";
import { Arena } from "./views/arena.js";
import { Chat } from "./views/chat.js";
import { Cluster } from "./views/cluster.js";
import { Keys } from "./views/keys.js";
import { Usage } from "./views/usage.js";
import { Work } from "./views/work.js";

const VIEWS = { chat: Chat, arena: Arena, cluster: Cluster, work: Work, usage: Usage, keys: Keys };
const NAMES = /** @type {(keyof typeof VIEWS)[]} */ (Object.keys(VIEWS));
const THEME = "millstream.theme";
const MODELS_EVERY = 4000; // ms between two looks at what is served

const theme = localStorage.getItem(THEME);
if (theme) document.documentElement.dataset.theme = theme;

function toggleTheme() {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark" || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  const next = dark ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  localStorage.setItem(THEME, next);
}

function App() {
  const [locked, setLocked] = useState(false);
  const [served, setServed] = useState({ models: null, error: "" });
  const [viewer, setViewer] = useState(null);
  const [view, setView] = useState(viewOf());
  const [tongue, setTongue] = useState(language());
  const known = useRef(null); // who asks, once the gateway has told
  const look = async () => {
    try {
      const listed = (await get("v1/models")).data; // `capabilities` is null where no worker is left to tell
      const models = listed.map((each) => ({ ...each, capabilities: each.capabilities ?? [] }));
      setModels(models);
      setServed({ models, error: "" });
      setLocked(false);
      if (!known.current) setViewer(await whoAsks(known));
    } catch (error) {
      if (error.status !== 401) setServed((before) => ({ models: before.models, error: error.message }));
    }
  };
  useEffect(() => {
    const lock = () => setLocked(true);
    const moved = () => setView(viewOf());
    events.addEventListener("unauthorized", lock);
    addEventListener("hashchange", moved);
    addEventListener("keydown", pressed);
    look();
    const timer = setInterval(() => document.hidden || look(), MODELS_EVERY);
    return () => clearInterval(timer);
  }, []);
  const speak = () => (choose(tongue === "en" ? "zh" : "en"), setTongue(language()));
  const leave = () => (keepKey("", false), location.reload()); // nothing of this tenant stays in memory
  return html`<div class="shell">
    <a class="skip" href="#main" onClick=${(e) => (e.preventDefault(), document.querySelector("main")?.focus())}>${t("skip")}</a>
    <${Top} view=${view} onSpeak=${speak} onLeave=${key() && !locked ? leave : null} />
    <main tabindex="-1"><${Main} key=${tongue} view=${view} locked=${locked} served=${served} viewer=${viewer} onEnter=${look} /></main>
  </div>`;
}

/** Who asks, as the gateway tells it; nobody in particular while it does not. */
async function whoAsks(known) {
  try {
    known.current = (await get("v1/cluster")).viewer;
  } catch {
    // asked again with the next look
  }
  const viewer = known.current ?? { tenant: "", admin: false, local_workers: false };
  setOwner(viewer.tenant);
  return viewer;
}

const viewOf = () => (location.hash.slice(2).split("/")[0] in VIEWS ? location.hash.slice(2).split("/")[0] : "chat");

function pressed(event) {
  const name = NAMES[Number(event.key) - 1];
  if (event.altKey && name) (event.preventDefault(), (location.hash = `#/${name}`));
}

function Top({ view, onSpeak, onLeave }) {
  return html`<header class="top">
    <span class="name"><img src="ui/icon.svg" alt="" />Millstream</span>
    <nav aria-label="Millstream">${NAMES.map((name) => html`<a href=${here(name)} aria-current=${name === view ? "page" : undefined}>${t(name)}</a>`)}</nav>
    <button class="plain" type="button" onClick=${toggleTheme} aria-label=${t("theme")} title=${t("theme")}>◐</button>
    <button class="plain" type="button" onClick=${onSpeak}>${t("language")}</button>
    ${onLeave && html`<button class="plain" type="button" onClick=${onLeave}>${t("leave")}</button>`}
  </header>`;
}

/** With a base address a bare fragment would lead to the base. */
const here = (name) => `${location.pathname}${location.search}#/${name}`;

function Main({ view, locked, served, viewer, onEnter }) {
  if (locked) return html`<${Login} onEnter=${onEnter} />`;
  if (served.models === null) return html`<div class="center"><p role="status">${served.error ? t("away") : "…"}</p></div>`;
  const away = served.error && html`<div class="notice warn" role="status">${t("away")}</div>`;
  const View = VIEWS[view];
  if (view === "chat" && !viewer) return html`${away}<div class="center"><p role="status">…</p></div>`;
  if (view === "chat" && !served.models.length) return html`${away}<${FirstRun} />`;
  return html`${away}<${View} models=${served.models} viewer=${viewer} />`;
}

function Login({ onEnter }) {
  const [value, setValue] = useState("");
  const [remember, setRemember] = useState(false);
  const [wrong, setWrong] = useState(false);
  const enter = async (event) => {
    event.preventDefault();
    keepKey(value.trim(), remember);
    try {
      await get("v1/models");
      onEnter();
    } catch {
      keepKey("", false);
      setWrong(true);
    }
  };
  return html`<div class="center"><form class="panel card" onSubmit=${enter}>
    <h2>${t("key_wanted")}</h2>
    <p><label>${t("key")}<br /><input class="grow" type="password" autocomplete="off" value=${value} onInput=${(e) => setValue(e.target.value)} autofocus /></label></p>
    <p><label class="row"><input type="checkbox" checked=${remember} onChange=${(e) => setRemember(e.target.checked)} />${t("remember")}</label>
      <span class="soft small">${t("kept_for_tab")}</span></p>
    ${wrong && html`<p class="bad" role="alert">${t("wrong_key")}</p>`}
    <button class="main" type="submit" disabled=${!value.trim()}>${t("enter")}</button>
  </form></div>`;
}

/** What to do before there is a model to talk to. */
function FirstRun() {
  return html`<div class="center"><div class="panel card">
    <h2>${t("no_worker")}</h2>
    <p>${t("no_worker_why")}</p>
    <${Line} text="millstream worker --model smollm2-135m-instruct" />
    <p>${t("no_worker_try")}</p>
    <${Line} text="millstream worker --engine simulated --model simulated" />
    <p class="soft" role="status">${t("no_worker_wait")}</p>
  </div></div>`;
}

render(html`<${App} />`, document.getElementById("app"));
