// All conversations: opened, named, exported and deleted.

import { html, useEffect, useRef, useState } from "../vendor/preact-htm.js";
import { inMemory, stopAll } from "../lib/answers.js";
import { save as saveFile } from "../lib/api.js";
import { changes } from "../lib/conversations.js";
import { drop, everyTalk, fetched, keeping, lookFurther, rename } from "../lib/keeping.js";
import { t } from "../lib/words.js";

const refused = (error) => alert(error.message);

export function Talks({ shown, onOpen, onNew }) {
  const [talks, setTalks] = useState(everyTalk);
  const [named, setNamed] = useState("");
  useEffect(() => {
    const heard = () => setTalks(everyTalk());
    changes.addEventListener("list", heard);
    return () => changes.removeEventListener("list", heard);
  }, []);
  const name = (id) => (title) => (setNamed(""), title.trim() && rename(id, title).catch(refused));
  const item = (each) => html`<li key=${each.id} aria-current=${each.id === shown.id}>
    ${each.id === named
      ? html`<${Name} title=${each.title} onName=${name(each.id)} onLeave=${() => setNamed("")} />`
      : html`<button type="button" onClick=${() => onOpen(each.id)}>${each.title || "…"}</button>`}
    <${Act} name="rename" sign="✎" title=${each.title} onClick=${() => setNamed(each.id)} />
    <${Act} name="export" sign="↓" title=${each.title} onClick=${() => exported(each.id).catch(refused)} />
    <${Act} name="remove" sign="✕" title=${each.title} onClick=${() => removed(each.id).catch(refused)} />
  </li>`;
  return html`<aside aria-label=${t("talks")}>
    <button class="main" type="button" onClick=${onNew} title="Ctrl+K">${t("new_talk")}</button>
    ${!talks.length && html`<p class="soft small">${t("no_talks")}</p>`}
    <ul>${talks.map(item)}</ul>
    ${keeping.more && html`<${Older} />`}
    ${keeping.state && html`<p class="soft small kept" role="status">${t(`talks_${keeping.state}`, keeping.message)}</p>`}
  </aside>`;
}

/** The way to conversations that are too old to be listed at first. */
function Older() {
  const [busy, setBusy] = useState(false);
  const further = async () => (setBusy(true), await lookFurther(), setBusy(false));
  return html`<button type="button" disabled=${busy} onClick=${further}>${t("older")}</button>`;
}

function Act({ name, sign, title, onClick }) {
  return html`<button class="plain" type="button" aria-label=${`${t(name)}: ${title}`} title=${t(name)} onClick=${onClick}>${sign}</button>`;
}

/** The name while it is changed: Enter keeps it, Escape does not. */
function Name({ title, onName, onLeave }) {
  const place = useRef(null);
  useEffect(() => place.current.select(), []);
  const pressed = (event) => {
    if (event.key === "Escape") (event.stopPropagation(), onLeave());
  };
  const send = (event) => (event.preventDefault(), onName(place.current.value));
  return html`<form class="grow" onSubmit=${send}>
    <input class="grow" ref=${place} aria-label=${t("rename")} defaultValue=${title} maxlength="200" onKeyDown=${pressed} onBlur=${onLeave} /></form>`;
}

async function exported(id) {
  const talk = inMemory(id) ?? (await fetched(id));
  saveFile(new Blob([JSON.stringify(talk, null, 2)], { type: "application/json" }), `conversation-${id.slice(0, 8)}.json`);
}

/** A conversation that still grows is stopped first, and not written again. */
async function removed(id) {
  const growing = inMemory(id);
  if (growing) {
    growing.temporary = true;
    await stopAll(growing);
  }
  await drop(id);
}
