// One answer from its request to its end, over as many connections, gateways and workers as it takes.
//
// An answer knows the number of the last event it has had (`seq`), and text and number change together. So whatever breaks
// (the connection, the gateway, this page), it goes on after that event: nothing is lost and nothing is said twice.

import { ApiError, ask, get, sleep, sse } from "./api.js";
import { fresh } from "./conversations.js";

const FIRST_PAUSE = 250; // ms until the first new try; each later one waits longer
const LONGEST_PAUSE = 4000;
const GONE = [400, 401, 403, 404, 409, 410, 413, 422];

/**
 * @typedef {{offset: number, gap: number | null, title: string, lease: string}} Seam where in the text another lease went on
 * @typedef {{key: string, body: any, id: string, seq: number, state: string, text: string, thinking: string,
 *   tools: {name: string, arguments: string}[], error: string, sent: number, first: number, last: number, tokens: number, finish: string,
 *   usage: {completion_tokens: number} | null, place: string, seams: Seam[], leases: any[], reconnects: number, repeated: number,
 *   offsets: [number, number, number][], checked: string, prefix: string}} Answer times in ms; `offsets`: seq, length of the text, time
 */

/** A new answer. @param {object} body the request without messages @returns {Answer} */
export function newAnswer(body) {
  return {
    key: fresh(), body, id: "", seq: 0, state: "sending", text: "", thinking: "", tools: [], error: "", sent: Date.now(),
    first: 0, last: 0, tokens: 0, finish: "", usage: null, place: "", seams: [], leases: [], reconnects: 0, repeated: 0, offsets: [],
    checked: "", prefix: "",
  };
}

/** An answer that goes on where an earlier one ended. @param {Answer} earlier @returns {Answer} */
export function continued(earlier) {
  const answer = newAnswer({ ...earlier.body, continue_final_message: true });
  return { ...answer, text: earlier.text, prefix: earlier.text, thinking: earlier.thinking };
}

/** Tells whether it may still grow. */
export const open = (answer) => ["sending", "waiting", "writing", "reconnecting"].includes(answer.state);

/**
 * Follows an answer until its end. May be called for a new one, or again after a reload.
 * @param {Answer} answer changed in place
 * @param {object[]} messages the conversation that it answers
 * @param {(answer: Answer) => void} changed
 * @param {AbortSignal} signal
 */
export async function follow(answer, messages, changed, signal) {
  let pause = FIRST_PAUSE;
  while (open(answer) && !signal.aborted) {
    const before = answer.seq;
    try {
      const response = await connect(answer, messages, signal);
      changed(answer);
      for await (const event of sse(response)) {
        take(answer, event);
        changed(answer);
        if (!open(answer)) break;
      }
      if (open(answer)) throw new TypeError("the connection ended");
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && GONE.includes(error.status)) return fail(answer, error.message, changed);
      if (error instanceof ApiError && !answer.id && error.status === 429) return fail(answer, error.message, changed);
      if (answer.seq > before) pause = FIRST_PAUSE;
      answer.state = answer.id ? "reconnecting" : "sending";
      answer.reconnects += answer.id ? 1 : 0;
      changed(answer);
      await sleep(Math.max(pause, (error.retryAfter ?? 0) * 1000), signal);
      pause = Math.min(pause * 2, LONGEST_PAUSE);
    }
  }
  if (!signal.aborted) await conclude(answer, changed);
}

function fail(answer, message, changed) {
  answer.state = "failed";
  answer.error = message;
  changed(answer);
}

/** Until its id is known the request is sent (again: by its key the gateway knows it); from then on the id is enough. */
async function connect(answer, messages, signal) {
  if (answer.id) return ask(`v1/chat/completions/${answer.id}/stream?after=${answer.seq}`, { signal });
  const headers = { "idempotency-key": answer.key, "x-millstream-resumable": "true" };
  const json = { ...answer.body, messages, stream: true, stream_options: { include_usage: true } };
  const response = await ask("v1/chat/completions", { json, headers, signal });
  answer.id = response.headers.get("x-millstream-request") ?? "";
  answer.state = "waiting";
  const queued = response.headers.get("x-millstream-queue-position");
  if (queued) answer.place = `queued ${queued}`;
  return response;
}

/** Takes one event. */
export function take(answer, { id, data, kind }) {
  if (kind === "comment") {
    if (data.startsWith("queued")) answer.place = data;
    return;
  }
  if (data === "[DONE]") return end(answer);
  const told = JSON.parse(data);
  if (told.error) {
    answer.error = told.error.message;
    answer.state = told.error.code === "cancelled" ? "stopped" : "failed";
    return;
  }
  const seq = Number(id.split(":")[1]);
  if (seq <= answer.seq) {
    answer.repeated++;
    return;
  }
  for (const choice of told.choices) takeChoice(answer, choice);
  if (told.usage) answer.usage = told.usage;
  answer.seq = seq;
  answer.offsets.push([seq, answer.text.length, Date.now()]);
}

function takeChoice(answer, { delta, finish_reason }) {
  const words = delta.content || delta.reasoning_content || delta.tool_calls;
  if (words) {
    const now = Date.now();
    answer.first ||= now;
    answer.last = now;
    answer.tokens++;
    answer.state = "writing";
    answer.place = "";
  }
  answer.text += delta.content ?? "";
  answer.thinking += delta.reasoning_content ?? "";
  for (const call of delta.tool_calls ?? []) {
    const tool = (answer.tools[call.index] ??= { name: "", arguments: "" });
    tool.name += call.function?.name ?? "";
    tool.arguments += call.function?.arguments ?? "";
  }
  if (finish_reason) answer.finish = finish_reason;
}

function end(answer) {
  answer.state = answer.finish || answer.usage ? "done" : "reconnecting";
}

/** Asks for the job's leases, and where there was any disturbance compares the text with the log. */
async function conclude(answer, changed) {
  if (!answer.id) return;
  try {
    await learnLeases(answer);
    if (answer.state === "done" && (answer.seams.length || answer.reconnects)) await check(answer);
    if (!open(answer)) answer.offsets = [];
  } catch {
    // the answer itself is complete; only the story of how it came is not known
  }
  changed(answer);
}

/** The workers that wrote it, and where in the text each began. */
export async function learnLeases(answer) {
  const job = await get(`v1/jobs/${answer.id}`);
  answer.leases = job.leases;
  const seams = job.leases.map((lease, at) => ({ lease, before: job.leases[at - 1] })).filter(({ lease }) => lease.after_chunk > 0);
  answer.seams = seams.map(({ lease, before }) => ({
    ...placeOf(answer, lease.after_chunk),
    title: `${before?.worker ?? "?"} → ${lease.worker}`,
    lease: lease.lease,
  }));
}

/** Where in the text a lease began, and for how many seconds nothing came here then. */
function placeOf({ offsets }, seq) {
  const before = offsets.findLast((each) => each[0] <= seq);
  const after = offsets.find((each) => each[0] > seq);
  return { offset: before?.[1] ?? 0, gap: before && after ? (after[2] - before[2]) / 1000 : null };
}

async function check(answer) {
  const again = { ...newAnswer({}), id: answer.id };
  for await (const event of sse(await ask(`v1/chat/completions/${answer.id}/stream`))) {
    take(again, event);
    if (!open(again)) break;
  }
  const same = answer.prefix + again.text === answer.text && answer.thinking.endsWith(again.thinking);
  answer.checked = same ? "same" : "differs";
}

/** Stops it, wherever it is. @param {Answer} answer @param {AbortController} reader */
export async function stop(answer, reader) {
  reader.abort();
  if (open(answer)) answer.state = "stopped";
  if (answer.id) await ask(`v1/requests/${answer.id}/cancel`, { method: "POST" }).catch(() => {});
}

/** Tokens per second as they came here; 0 before there are two. */
export function rate(answer) {
  const took = (answer.last - answer.first) / 1000;
  return took > 0 && answer.tokens > 1 ? (answer.tokens - 1) / took : 0;
}

/** Milliseconds until the first token; 0 before. */
export const firstToken = (answer) => (answer.first ? answer.first - answer.sent : 0);
