// Two to four models on one prompt: side by side with their names, or a blind battle with votes.

import { html, useState } from "../vendor/preact-htm.js";
import { grow, parameters, stopAll, useMessage } from "../lib/answers.js";
import { download, get } from "../lib/api.js";
import { asked, begin } from "../lib/conversations.js";
import { Table, number, usePolled } from "../lib/parts.js";
import { newAnswer, open } from "../lib/stream.js";
import { t } from "../lib/words.js";
import { Composer } from "./composer.js";
import { Answer } from "./message.js";

const MOST = 4;
/** @type {import("../lib/words.js").Words[]} */
const WINNERS = ["left", "right", "tie", "both_bad"];

/** A conversation that is not kept: its messages are in memory alone. */
function column(model) {
  return { ...begin(model, {}), temporary: true };
}

function say(talk, text, salt) {
  const put = (message) => ((talk.messages[message.id] = message), (talk.leaf = message.id), message);
  const id = () => `${talk.id}.${Object.keys(talk.messages).length}`;
  const question = put({ id: id(), parent: talk.leaf, role: "user", text });
  const body = { ...parameters(talk), ...salt };
  grow(talk, put({ id: id(), parent: question.id, role: "assistant", text: "", answer: newAnswer(body) }));
}

const messagesOf = (talk) => Object.values(talk.messages);
const growing = (talks) => talks.some((talk) => messagesOf(talk).some((each) => each.answer && open(each.answer)));

export function Arena({ models }) {
  const [blind, setBlind] = useState(true);
  const [votes, setVotes] = useState(0);
  const able = models.filter((each) => each.capabilities.includes("chat") && each.workers);
  return html`<div class="page">
    <div class="row" role="tablist">
      <button role="tab" aria-selected=${blind} class=${blind ? "main" : ""} type="button" onClick=${() => setBlind(true)}>${t("blind")}</button>
      <button role="tab" aria-selected=${!blind} class=${blind ? "" : "main"} type="button" onClick=${() => setBlind(false)}>${t("side")}</button>
    </div><br />
    ${blind ? html`<${Battle} models=${able} onVote=${() => setVotes(votes + 1)} />` : html`<${SideBySide} models=${able} />`}
    <${Board} key=${votes} />
  </div>`;
}

/** Two different models in random order. */
function pair(models) {
  const left = [...models];
  const first = left.splice(Math.floor(Math.random() * left.length), 1)[0];
  return [first, left[Math.floor(Math.random() * left.length)]].map((model) => column(model.id));
}

function Battle({ models, onVote }) {
  const [talks, setTalks] = useState(() => (models.length > 1 ? pair(models) : null));
  const [voted, setVoted] = useState(false);
  useMessage(null);
  if (!talks && models.length > 1) setTalks(pair(models));
  if (!talks) return html`<div class="panel"><p>${t("two_models", models.map((each) => each.id).join(", ") || "–")}</p></div>`;
  const busy = growing(talks);
  const begun = messagesOf(talks[0]).length > 0;
  const again = () => (setTalks(pair(models)), setVoted(false));
  const names = voted ? talks.map((talk) => talk.model) : [t("answer_a"), t("answer_b")];
  const vote = async (winner) => {
    await send(talks, winner);
    setVoted(true);
    onVote();
  };
  return html`<div class="panel">
    <${Columns} talks=${talks} names=${names} blind=${!voted} />
    ${begun && !busy && !voted && html`<div class="row" role="group" aria-label=${t("votes")}>
      ${WINNERS.map((winner) => html`<button key=${winner} type="button" onClick=${() => vote(winner)}>${t(winner)}</button>`)}
      <span class="soft small">${t("need_vote")}</span></div>`}
    ${voted && html`<p role="status" class="row">${t("voted", ...names)} <button class="main" type="button" onClick=${again}>${t("another")}</button></p>`}
    ${!voted && html`<${Composer} busy=${busy} ready=${true} onStop=${() => talks.forEach(stopAll)} onAsk=${(text) => talks.forEach((talk) => say(talk, text))} />`}
  </div>`;
}

async function send(talks, winner) {
  const told = ({ model, leaf, messages }) => ({ model, answer: messages[leaf].answer.text, completion: messages[leaf].answer.id || null });
  const [left, right] = talks.map(told);
  const messages = asked(talks[0], talks[0].messages[talks[0].leaf].parent);
  await get("v1/arena/votes", { json: { left, right, winner, messages, blind: true } });
}

function SideBySide({ models }) {
  const ids = models.map((each) => each.id);
  const [talks, setTalks] = useState(() => [0, 1].map((at) => column(ids[at % Math.max(ids.length, 1)] ?? "")));
  useMessage(null);
  const busy = growing(talks);
  const choose = (at, model) => setTalks(talks.map((talk, index) => (index === at ? column(model) : talk)));
  const choice = (talk, at) => html`<select aria-label=${`${t("model")} ${at + 1}`} value=${talk.model} onChange=${(e) => choose(at, e.target.value)}>
    ${ids.map((id) => html`<option value=${id}>${id}</option>`)}</select>`;
  return html`<div class="panel">
    <div class="row">${talks.map(choice)}
      ${talks.length < MOST && html`<button type="button" onClick=${() => setTalks([...talks, column(ids[talks.length % ids.length] ?? "")])}>+ ${t("add_model")}</button>`}
      ${talks.length > 2 && html`<button type="button" aria-label=${t("remove_model")} onClick=${() => setTalks(talks.slice(0, -1))}>−</button>`}</div>
    <${Columns} talks=${talks} names=${talks.map((talk) => talk.model)} />
    <${Composer} busy=${busy} ready=${ids.length > 0} onStop=${() => talks.forEach(stopAll)} onAsk=${(text) => talks.forEach((talk) => say(talk, text))} />
  </div>`;
}

/** The conversations beside each other; blind: nothing leads to the names of the models. */
function Columns({ talks, names, blind = false }) {
  const shown = (talk, at) =>
    messagesOf(talk).map((message) =>
      message.answer
        ? html`<${Answer} key=${message.id} message=${message} versions=${[message]} name=${names[at]} blind=${blind} />`
        : html`<section class="message user" key=${message.id}><div class="body">${message.text}</div></section>`,
    );
  return html`<div class="columns">${talks.map((talk, at) => html`<div key=${talk.id} aria-label=${names[at]}><b>${names[at]}</b>${shown(talk, at)}</div>`)}</div>`;
}

function Board() {
  const { found } = usePolled(() => get("v1/arena/leaderboard"), 0);
  const rows = (found?.data ?? []).map((each, at) => ({
    key: each.model,
    cells: [at + 1, each.model, number(each.rating), html`${number(each.low)} – ${number(each.high)}`, each.wins, each.losses, each.ties, each.votes],
  }));
  const head = ["#", t("model"), t("rating"), t("interval"), t("wins"), t("losses"), t("ties"), t("votes")];
  return html`<section class="panel board"><h2>${t("board")}</h2>
    <${Table} head=${head} rows=${rows} empty=${t("no_votes")} numbers=${[2, 3, 4, 5, 6, 7]} />
    ${rows.length > 0 && html`<p><button type="button" onClick=${() => download("v1/arena/votes.jsonl", "votes.jsonl")}>${t("export_votes")}</button></p>`}
  </section>`;
}
