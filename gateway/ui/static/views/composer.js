// Where a question is written, with the pictures that belong to it, and the settings of its conversation.

import { html, useRef, useState } from "../vendor/preact-htm.js";
import { MOST_PICTURES, PictureError, picture, picturesOf, sees } from "../lib/pictures.js";
import { t } from "../lib/words.js";

const EFFORTS = ["", "none", "low", "medium", "high"];

/** @param {any} props `seer`: the model that is asked, where pictures may be shown to it */
export function Composer({ busy, ready, onAsk, onStop, settings, onSet, seer }) {
  const [text, setText] = useState("");
  const [shown, setShown] = useState(false);
  const pictures = usePictures(seer);
  const full = Boolean(text.trim() || pictures.images.length);
  const send = (event) => {
    event?.preventDefault();
    if (!full || busy || !ready || pictures.blind()) return;
    onAsk(text, pictures.images);
    setText("");
    pictures.clear();
  };
  const pressed = (event) => event.key === "Enter" && !event.shiftKey && !event.isComposing && send(event);
  return html`<div class="composer" ...${pictures.target}>
    <form onSubmit=${send}>
      <${Chosen} pictures=${pictures} />
      <textarea aria-label=${t("ask")} placeholder=${t("ask")} value=${text} onInput=${(e) => setText(e.target.value)} onKeyDown=${pressed}></textarea>
      ${busy
        ? html`<button class="bad" type="button" onClick=${onStop} title="Esc">${t("stop")}</button>`
        : html`<button class="main" type="submit" disabled=${!ready || !full}>${t("send")}</button>`}
      ${seer && html`<${Pick} onPick=${pictures.take} />`}
      ${settings && html`<button type="button" aria-expanded=${shown} onClick=${() => setShown(!shown)}>${t("settings")}</button>`}
    </form>
    ${shown && html`<${Settings} settings=${settings} onSet=${onSet} />`}
  </div>`;
}

/** The pictures of the question that is written now. @param {string | undefined} seer */
function usePictures(seer) {
  const [images, setImages] = useState(/** @type {string[]} */ ([]));
  const [refused, setRefused] = useState("");
  const blind = (coming = images) => {
    const cannot = coming.length > 0 && !sees(seer);
    if (cannot) setRefused(t("picture_blind", seer));
    return cannot;
  };
  const take = async (files) => {
    setRefused("");
    if (blind(files)) return;
    for (const file of files) {
      try {
        const made = await picture(file);
        setImages((before) => (before.length < MOST_PICTURES ? [...before, made] : (setRefused(t("pictures_many", MOST_PICTURES)), before)));
      } catch (error) {
        if (!(error instanceof PictureError)) throw error;
        setRefused(t(error.why, file.name));
      }
    }
  };
  const given = (data) => (event) => {
    const files = seer ? picturesOf(event[data]) : [];
    if (files.length) (event.preventDefault(), take(files));
  };
  const over = (event) => seer && event.dataTransfer?.types.includes("Files") && event.preventDefault();
  const target = { onPaste: given("clipboardData"), onDrop: given("dataTransfer"), onDragOver: over };
  const drop = (at) => (setRefused(""), setImages((before) => before.filter((_, index) => index !== at)));
  const clear = () => (setImages([]), setRefused(""));
  return { images, refused, blind, take, target, drop, clear };
}

/** What was chosen, each with a way to leave it out again. */
function Chosen({ pictures }) {
  const { images, refused, drop } = pictures;
  return html`
    ${refused && html`<p class="bad small whole" role="alert">${refused}</p>`}
    ${images.length > 0 && html`<div class="pictures whole">${images.map((url, at) => html`<span key=${url}>
      <img src=${url} alt=${t("picture", at + 1)} />
      <button class="plain" type="button" aria-label=${`${t("remove")}: ${t("picture", at + 1)}`} onClick=${() => drop(at)}>✕</button></span>`)}</div>`}`;
}

function Pick({ onPick }) {
  const place = useRef(null);
  const picked = () => (onPick([...place.current.files]), (place.current.value = ""));
  return html`<button type="button" aria-label=${t("add_picture")} title=${t("add_picture")} onClick=${() => place.current.click()}>${t("picture_short")}</button>
    <input type="file" accept="image/*" multiple hidden ref=${place} onChange=${picked} />`;
}

function Settings({ settings, onSet }) {
  const field = (name, step, most) => html`<label>${t(name)}
    <input type="number" min="0" step=${step} max=${most} value=${settings[name] ?? ""} onInput=${(e) => onSet(name, e.target.value)} /></label>`;
  return html`<div class="settings">
    <label class="wide">${t("system")}<textarea value=${settings.system ?? ""} onInput=${(e) => onSet("system", e.target.value)}></textarea></label>
    ${field("temperature", 0.1, 2)} ${field("top_p", 0.05, 1)} ${field("max_tokens", 1)} ${field("seed", 1)}
    <label>${t("effort")} <select value=${settings.effort ?? ""} onChange=${(e) => onSet("effort", e.target.value)}>
      ${EFFORTS.map((each) => html`<option value=${each}>${each || "–"}</option>`)}</select></label>
  </div>`;
}
