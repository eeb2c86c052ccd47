// One message: a question that can be edited, or an answer with its figures and its story.

import { html, useState } from "../vendor/preact-htm.js";
import { useMessage } from "../lib/answers.js";
import { ask, get } from "../lib/api.js";
import { Copy, Markdown, seconds } from "../lib/parts.js";
import { firstToken, open, rate } from "../lib/stream.js";
import { t } from "../lib/words.js";

/** The versions of a message, and the way from one to the next. */
function Versions({ versions, message, onShow }) {
  if (versions.length < 2) return null;
  const at = versions.findIndex((each) => each.id === message.id);
  const step = (by) => () => onShow(versions[at + by].id);
  return html`<span class="row">
    <button class="plain" type="button" aria-label=${t("previous")} disabled=${at === 0} onClick=${step(-1)}>‹</button>
    <span>${at + 1}/${versions.length}</span>
    <button class="plain" type="button" aria-label=${t("next")} disabled=${at === versions.length - 1} onClick=${step(1)}>›</button>
  </span>`;
}

export function Question({ message, versions, onShow, onEdit }) {
  const [draft, setDraft] = useState(null);
  const keep = () => (setDraft(null), onEdit(message, draft));
  const versionsShown = html`<${Versions} versions=${versions} message=${message} onShow=${onShow} />`;
  if (draft !== null) {
    return html`<section class="message user" aria-label=${t("you")}>
      <textarea aria-label=${t("edit")} value=${draft} onInput=${(e) => setDraft(e.target.value)}></textarea>
      <div class="row"><button class="main" type="button" onClick=${keep} disabled=${!draft.trim() && !message.images}>${t("send")}</button>
        <button type="button" onClick=${() => setDraft(null)}>${t("cancel")}</button></div>
    </section>`;
  }
  return html`<section class="message user" aria-label=${t("you")}>
    ${message.images && html`<div class="pictures">${message.images.map((url, at) => html`<img key=${at} src=${url} alt=${t("picture", at + 1)} />`)}</div>`}
    ${message.text && html`<div class="body" dir="auto">${message.text}</div>`}
    <div class="facts">${versionsShown}<button class="plain small" type="button" onClick=${() => setDraft(message.text)}>${t("edit")}</button>
      <${Copy} text=${message.text} /></div>
  </section>`;
}

export function Answer({ message, versions, onShow, onAgain, onGoOn, name, blind = false, canKill = false }) {
  useMessage(message.id);
  const { answer } = message;
  return html`<section class="message assistant" aria-label=${name ?? answer.body.model} data-state=${answer.state} data-id=${answer.id}>
    <div class="who">${name ?? answer.body.model}</div>
    <${AnswerBody} answer=${answer} />
    <div class="facts">
      <${Versions} versions=${versions} message=${message} onShow=${onShow} />
      <${Figures} answer=${answer} />
      ${canKill && answer.state === "writing" && html`<button class="plain small bad" type="button" onClick=${() => killWriter(answer)}>${t("kill_writer")}</button>`}
      ${answer.id && !blind && html`<a class="small" href=${`${location.pathname}#/cluster/${answer.id}`}>${t("life_link")}</a>`}
      ${!open(answer) && html`<${Copy} text=${answer.text} />`}
      ${!open(answer) && onAgain && html`<button class="plain small" type="button" onClick=${() => onAgain(message)}>${t("again")}</button>`}
      ${onGoOn && goesOn(answer) && html`<button class="plain small" type="button" onClick=${() => onGoOn(message)}>${t("go_on")}</button>`}
    </div>
    <${Story} answer=${answer} />
  </section>`;
}

/** Tells whether an answer ended before its model had said all. */
const goesOn = (answer) => Boolean(answer.text) && !answer.tools.length && (answer.state === "stopped" || (answer.state === "done" && answer.finish === "length"));

/** Kills the worker that writes an answer, to see it go on elsewhere. */
async function killWriter(answer) {
  try {
    const { worker } = await get(`v1/jobs/${answer.id}`);
    if (worker) await ask(`v1/workers/${encodeURIComponent(worker)}/kill`, { method: "POST" });
  } catch (error) {
    alert(error.message);
  }
}

/** What was said, thought and called, and what is waited for. */
export function AnswerBody({ answer }) {
  const busy = open(answer);
  return html`
    ${answer.thinking && html`<details class="thinking" open=${busy && !answer.text}><summary>${t("thinking")}</summary>
      <${Markdown} text=${answer.thinking} /></details>`}
    ${(answer.text || answer.seams.length > 0) && html`<${Markdown} text=${answer.text} seams=${answer.seams} busy=${busy} />`}
    ${answer.tools.filter(Boolean).map((tool) => html`<div class="tool" aria-label=${t("tool")}>⚙ ${tool.name}(${tool.arguments})</div>`)}
    ${busy && html`<p class="soft small" role="status">${standing(answer)}</p>`}
    ${answer.state === "failed" && html`<p class="bad" role="alert">${t("failed")}: ${answer.error}</p>`}
    ${answer.state === "stopped" && html`<p class="soft small">${t("stopped")}</p>`}`;
}

/** Words for what an answer that is not whole waits for. */
export function standing(answer) {
  if (answer.state === "reconnecting") return t("reconnecting");
  if (answer.state === "sending") return t("sending");
  const queued = /^queued (\d+)(?:, about (\d+) s)?(.*)$/.exec(answer.place);
  if (!queued) return answer.state === "waiting" ? t("waiting") : "";
  const about = queued[2] ? `, ${t("about", seconds(Number(queued[2])))}` : "";
  const nobody = queued[3].includes("no worker") ? `: ${t("no_worker_now")}` : queued[3].replace(/^, /, ": ");
  return t("queued", queued[1]) + about + nobody;
}

export function Figures({ answer }) {
  const tokens = answer.usage?.completion_tokens ?? answer.tokens;
  return html`
    ${answer.first > 0 && html`<span title=${t("first_token")}>${t("first_token")} ${seconds(firstToken(answer) / 1000)}</span>`}
    ${rate(answer) > 0 && html`<span class="rate">${rate(answer).toFixed(1)} ${t("per_second")}</span>`}
    ${tokens > 0 && html`<span>${tokens} ${t("tokens")}</span>`}`;
}

/** Who wrote the answer, where several did, and whether it is whole. */
export function Story({ answer }) {
  const told = answer.seams.length || answer.reconnects || answer.checked;
  if (!told || open(answer)) return null;
  const gaps = answer.seams.map((seam) => html`<span class="seam" title=${seam.lease}>${seam.title}${seam.gap !== null && ` · ${t("gap", seconds(seam.gap))}`}</span>`);
  return html`<div class="facts story">
    ${answer.leases.length > 1 && html`<span>${t("seam", new Set(answer.leases.map((each) => each.worker)).size)}</span>`} ${gaps}
    ${answer.checked === "same" && html`<span class="good">${t("intact")}</span>`}
    ${answer.checked === "differs" && html`<span class="bad">${t("differs")}</span>`}
    ${answer.repeated > 0 && html`<span>${t("repeated", answer.repeated)}</span>`}
  </div>`;
}
