// Conversations with a model.

import { html, useEffect, useMemo, useRef, useState } from "../vendor/preact-htm.js";
import { answer, goOn, inMemory, resume, stopAll, useMessage } from "../lib/answers.js";
import { add, begin, changes, load, path, save, show, siblings } from "../lib/conversations.js";
import { fetched, isNews, look } from "../lib/keeping.js";
import { sees } from "../lib/pictures.js";
import { open } from "../lib/stream.js";
import { t } from "../lib/words.js";
import { Composer } from "./composer.js";
import { Answer, Question } from "./message.js";
import { Talks } from "./talks.js";

const LAST = "millstream.last";
const LOOK_EVERY = 20_000; // ms between two looks at what is kept on the gateway

/** The conversation shown last in this browser, or a new one. */
function opened() {
  const id = sessionStorage.getItem(LAST) ?? localStorage.getItem(LAST) ?? "";
  return inMemory(id) ?? load(id) ?? begin("", {});
}

export function Chat({ models, viewer }) {
  const [talk, setTalk] = useState(opened);
  const [phoneList, setPhoneList] = useState(false);
  const shown = useRef(talk);
  shown.current = talk;
  const go = (next) => (setTalk(next), setPhoneList(false));
  const start = () => go(begin(talk.model, { ...talk.settings }));
  useEffect(() => {
    sessionStorage.setItem(LAST, talk.id);
    localStorage.setItem(LAST, talk.id);
    resume(talk);
  }, [talk]);
  useKept(shown, setTalk);
  useEffect(() => {
    const pressed = (event) => {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") (event.preventDefault(), start());
      if (event.key === "Escape") stopAll(talk);
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, [talk]);
  const open = async (id) => {
    const own = inMemory(id) ?? load(id);
    if (own) go((shown.current = own));
    if (inMemory(id)) return;
    const found = await fetched(id).catch((error) => own || alert(error.message));
    if (found && (!own || (shown.current.id === id && !inMemory(id)))) go(found);
  };
  return html`<div class=${phoneList ? "chat list" : "chat"}>
    <${Talks} shown=${talk} onOpen=${open} onNew=${start} />
    <${Talk} key=${talk.id} talk=${talk} models=${models} viewer=${viewer} onList=${() => setPhoneList(true)} onNew=${start} />
  </div>`;
}

/** Takes up what other tabs and other devices do with the conversation that is shown. */
function useKept(shown, setTalk) {
  useEffect(() => {
    const replace = (next) => next && next.id === shown.current.id && !inMemory(next.id) && setTalk(next);
    const elsewhere = ({ detail }) => replace(load(detail));
    const listed = () => {
      const talk = shown.current;
      if (isNews(talk) && !inMemory(talk.id)) fetched(talk.id).then(replace, () => {});
      else talk.title = load(talk.id)?.title ?? talk.title;
    };
    const gone = ({ detail }) => detail === shown.current.id && setTalk(begin(shown.current.model, { ...shown.current.settings }));
    const heard = { elsewhere, list: listed, gone };
    for (const [name, listener] of Object.entries(heard)) changes.addEventListener(name, listener);
    const glance = () => document.hidden || look();
    document.addEventListener("visibilitychange", glance);
    const timer = setInterval(glance, LOOK_EVERY);
    look();
    return () => {
      for (const [name, listener] of Object.entries(heard)) changes.removeEventListener(name, listener);
      document.removeEventListener("visibilitychange", glance);
      clearInterval(timer);
    };
  }, []);
}

function Talk({ talk, models, viewer, onList, onNew }) {
  useMessage(null);
  const [, draw] = useState(0);
  const redraw = () => draw((n) => n + 1);
  const messages = path(talk);
  const busy = messages.some((each) => each.answer && open(each.answer));
  const chatModels = models.filter((each) => each.capabilities.includes("chat"));
  const model = chatModels.some((each) => each.id === talk.model) ? talk.model : chatModels[0]?.id ?? "";
  const chosen = useRef(model);
  chosen.current = model;
  const askOn = (text, images = [], parent = talk.leaf) => {
    talk.model = chosen.current;
    answer(talk, add(talk, { parent, role: "user", text, ...(images.length ? { images } : {}) }).id);
    redraw();
  };
  const canKill = Boolean(viewer?.local_workers);
  const acts = useMemo(() => ({
    canKill,
    onShow: (id) => (show(talk, id), redraw()),
    onEdit: (message, text) => askOn(text, message.images, message.parent),
    onGoOn: (message) => (goOn(talk, message), redraw()),
    onAgain: (message) => ((talk.model = chosen.current), answer(talk, message.parent), redraw()),
  }), [talk, canKill]);
  const set = (name, value) => ((talk.settings[name] = value), messages.length && save(talk), redraw());
  const choose = (value) => ((talk.model = value), messages.length && save(talk), redraw());
  return html`<div class="talk">
    <div class="bar row">
      <button class="only-phone" type="button" onClick=${onList} aria-label=${t("talks")}>☰</button>
      <button class="only-phone" type="button" onClick=${onNew} aria-label=${t("new_talk")}>+</button>
      <label class="row">${t("model")} <select value=${model} onChange=${(e) => choose(e.target.value)}>
        ${chatModels.map((each) => html`<option value=${each.id}>${each.id}${each.workers ? "" : ` (${t("no_worker_now")})`}</option>`)}</select></label>
    </div>
    <${Messages} talk=${talk} messages=${messages} acts=${acts} />
    ${!sees(model) && messages.some((each) => each.images) && html`<p class="notice small" role="status">${t("pictures_left_out", model)}</p>`}
    <${Composer} busy=${busy} ready=${Boolean(model)} seer=${model} onAsk=${askOn} onStop=${() => stopAll(talk)} settings=${talk.settings} onSet=${set} />
  </div>`;
}

/** The messages; the newest stay in sight unless the reader has scrolled up. */
function Messages({ talk, messages, acts }) {
  const place = useRef(null);
  const follows = useRef(true);
  const scrolled = ({ target }) => (follows.current = target.scrollHeight - target.scrollTop - target.clientHeight < 80);
  useEffect(() => {
    const inner = place.current.firstElementChild;
    const watch = new ResizeObserver(() => follows.current && (place.current.scrollTop = place.current.scrollHeight));
    watch.observe(inner);
    return () => watch.disconnect();
  }, []);
  // A message draws itself anew when it grows: the others need not be looked at.
  const shown = useMemo(() => messages.map((message) =>
    message.answer
      ? html`<${Answer} key=${message.id} message=${message} versions=${siblings(talk, message)} ...${acts} />`
      : html`<${Question} key=${message.id} message=${message} versions=${siblings(talk, message)} ...${acts} />`,
  ), [talk, talk.leaf, acts]);
  return html`<div class="messages" ref=${place} onScroll=${scrolled} tabindex="0" role="log" aria-label=${t("chat")}><div class="inner">
    ${shown}
  </div></div>`;
}
