// The answers that grow now, whichever view is shown: each belongs to one message of one conversation.

import { useEffect, useState } from "../vendor/preact-htm.js";
import { add, asked, changes, path, save, saveSoon } from "./conversations.js";
import { sees } from "./pictures.js";
import { continued, follow, newAnswer, open, stop } from "./stream.js";

/** @type {Map<string, {talk: import("./conversations.js").Conversation, message: any, reader: AbortController}>} */
const growing = new Map();
const NUMBERS = ["temperature", "top_p", "max_tokens", "seed"];

/** The fields of a request that the settings of a conversation set. */
export function parameters(talk, model = talk.model) {
  const found = { model };
  for (const name of NUMBERS) {
    const value = talk.settings[name];
    if (value !== undefined && value !== "" && Number.isFinite(Number(value))) found[name] = Number(value);
  }
  if (talk.settings.effort) found.reasoning_effort = talk.settings.effort;
  return found;
}

/** Adds an answer to the message `parent` and has it grow. */
export function answer(talk, parent, model = talk.model) {
  const message = add(talk, { parent, role: "assistant", text: "", answer: newAnswer(parameters(talk, model)) });
  grow(talk, message);
  return message;
}

/** Adds an answer that goes on where another one was stopped, or had no more room. */
export function goOn(talk, earlier) {
  const message = add(talk, { parent: earlier.parent, role: "assistant", text: "", answer: continued(earlier.answer) });
  grow(talk, message);
}

/** The conversation that a message answers, with the beginning of the answer if it has one. */
function askedBy(talk, { parent, answer }) {
  return [...asked(talk, parent, sees(answer.body.model)), ...(answer.prefix ? [{ role: "assistant", content: answer.prefix }] : [])];
}

/** Follows an answer, unless it is followed already. */
export function grow(talk, message) {
  if (growing.has(message.id) || !open(message.answer)) return;
  const reader = new AbortController();
  growing.set(message.id, { talk, message, reader });
  const changed = () => {
    open(message.answer) ? saveSoon(talk) : save(talk);
    told(message.id);
  };
  follow(message.answer, askedBy(talk, message), changed, reader.signal).finally(() => {
    growing.delete(message.id);
    talk.changed = Date.now();
    save(talk);
    told(message.id);
  });
}

/** Tells whether an answer grows in this page. @param {string} id its message's */
export const grows = (id) => growing.has(id);

/** The conversation as it is in memory, if one of its answers grows. */
export const inMemory = (id) => [...growing.values()].find(({ talk }) => talk.id === id)?.talk;

/** Goes on with every answer of a conversation that had not ended when the page went. */
export function resume(talk) {
  for (const message of path(talk)) if (message.answer && open(message.answer)) grow(talk, message);
}

/** Stops the growing answers of a conversation. */
export async function stopAll(talk) {
  const own = [...growing.values()].filter((each) => each.talk === talk);
  await Promise.all(own.map(({ message, reader }) => stop(message.answer, reader)));
  save(talk);
  for (const { message } of own) told(message.id);
}

function told(id) {
  changes.dispatchEvent(new CustomEvent("message", { detail: id }));
}

/** Draws the component again whenever the message changes, at most once a frame. @param {string | null} id null: any message */
export function useMessage(id) {
  const [, draw] = useState(0);
  useEffect(() => {
    let frame = 0;
    const heard = ({ detail }) => {
      if ((id === null || detail === id) && !frame) frame = requestAnimationFrame(() => ((frame = 0), draw((n) => n + 1)));
    };
    changes.addEventListener("message", heard);
    return () => (changes.removeEventListener("message", heard), cancelAnimationFrame(frame));
  }, [id]);
}
