// A conversation as the gateway keeps it: each message an item, with what only this page knows in the item's `attached`.
//
// Items are written by whoever has a key of the tenant, so what comes back is checked field by field.

import { newAnswer, open } from "./stream.js";

/**
 * @typedef {import("./conversations.js").Message} Message
 * @typedef {import("./conversations.js").Conversation} Conversation
 * @typedef {{id?: string, type: string, role: string, content: object[], attached?: any}} Item
 */

const MARK = 1; // the form of `attached`; an item without it is none of this page's
const SETTINGS = "settings"; // the id of the item that has the conversation's settings
const ID = /^[0-9a-zA-Z][\w.-]{0,99}$/;
const PICTURE = /^data:image\/(png|jpeg|webp|gif);base64,[A-Za-z0-9+/=]+$/;
const STATES = ["sending", "waiting", "writing", "reconnecting", "done", "stopped", "failed"];

/** What is to be kept of a conversation: items with the id of their message and what tells one version from the next.
 * @param {Conversation} talk @returns {{id: string, version: string, make: () => Item}[]} */
export function parts(talk) {
  const settings = { id: SETTINGS, version: JSON.stringify(normal(talk.settings)), make: () => settingsItem(talk) };
  const said = Object.values(talk.messages).filter(({ answer }) => !answer || answer.id || !open(answer));
  return [settings, ...said.map((message) => ({ id: message.id, version: version(message), make: () => item(message) }))];
}

/** An answer is written twice: when its id is known, so that it can be read on elsewhere, and at its end. @param {Message} message */
function version({ answer }) {
  if (!answer) return "said";
  return open(answer) ? "open" : `${answer.state} ${answer.checked} ${answer.leases.length}`;
}

/** @param {Conversation} talk @returns {Item} */
function settingsItem({ settings }) {
  const { system = "", ...others } = normal(settings);
  const attached = { page: MARK, id: SETTINGS, settings: others };
  return { type: "message", role: "system", content: [{ type: "input_text", text: String(system) }], attached };
}

/** Settings as they are kept, always in the same order. @param {object} given @returns {Record<string, string | number>} */
function normal(given) {
  const names = ["system", "temperature", "top_p", "max_tokens", "seed", "effort"];
  const plain = names.filter((name) => ["string", "number"].includes(typeof given[name]) && given[name] !== "");
  return Object.fromEntries(plain.map((name) => [name, given[name]]));
}

/** @param {Message} message @returns {Item} */
function item({ id, parent, role, text, at, answer, images = [] }) {
  const attached = { page: MARK, id, parent, at: at ?? 0, ...(answer ? { answer: kept(answer) } : {}) };
  if (answer) return { type: "message", role, content: [{ type: "output_text", text: open(answer) ? "" : answer.text }], attached };
  const shown = images.map((url) => ({ type: "input_image", image_url: url }));
  return { type: "message", role, content: [{ type: "input_text", text }, ...shown], attached };
}

/** An answer without its text. One that still grows is read again from its beginning wherever it is opened. */
function kept(answer) {
  const { text, offsets, place, ...rest } = answer;
  if (!open(answer)) return rest;
  return { ...rest, seq: 0, thinking: "", tools: [], tokens: 0, first: 0, last: 0, state: "reconnecting" };
}

/** What the gateway has of each message: its item, of two the later one. @param {Item[]} items @returns {Record<string, {item: string, version: string}>} */
export function seen(items) {
  const found = {};
  for (const each of ours(items)) {
    const told = each.attached.id === SETTINGS ? JSON.stringify(settingsOf(each)) : version(read(each));
    found[each.attached.id] = { item: each.id, version: told };
  }
  return found;
}

/** Items of which there is a later version. @param {Item[]} items @returns {string[]} their ids */
export function outdated(items) {
  const last = seen(items);
  return ours(items).filter((each) => last[each.attached.id].item !== each.id).map((each) => each.id);
}

const ours = (items) => items.filter((each) => each?.attached?.page === MARK && ID.test(each.attached.id));

/** Puts what the gateway has kept into a conversation. An answer that grows here is left alone.
 * @param {Conversation} talk changed in place @param {Item[]} items as they were listed, the oldest first
 * @param {(id: string) => boolean} grows @returns {boolean} whether anything changed */
export function merge(talk, items, grows) {
  const news = new Map();
  for (const each of ours(items)) if (each.attached.id !== SETTINGS) news.set(each.attached.id, read(each));
  const wanted = [...news.values()].filter((message) => !grows(message.id) && better(message, talk.messages[message.id]));
  let left = wanted.sort((a, b) => a.at - b.at);
  const before = left.length;
  // A message without its parent, or one that is its own forebear, has no place.
  for (let placed = true; placed; ) {
    const lost = left.filter((message) => !place(talk, message));
    placed = lost.length < left.length;
    left = lost;
  }
  return left.length < before;
}

function place(talk, message) {
  if (message.parent !== null && !Object.hasOwn(talk.messages, message.parent)) return false;
  talk.messages[message.id] = message;
  return true;
}

/** The settings that are kept, if any are. @param {Item[]} items */
export function keptSettings(items) {
  const found = ours(items).findLast((each) => each.attached.id === SETTINGS);
  return found ? settingsOf(found) : null;
}

const settingsOf = (each) => normal({ ...each.attached.settings, system: textOf(each) });

/** Tells whether a version from elsewhere tells more than the own one. @param {Message} theirs @param {Message | undefined} own */
function better(theirs, own) {
  if (!own) return true;
  if (!theirs.answer || !own.answer) return false;
  return own.answer.state !== "done" && !open(theirs.answer) && (open(own.answer) || theirs.answer.state === "done");
}

const partsOf = (each) => (Array.isArray(each.content) ? each.content : []);
const textOf = (each) => partsOf(each).map((part) => (typeof part.text === "string" ? part.text : "")).join("");

/** @param {Item} each @returns {Message} */
function read(each) {
  const { id, parent, at, answer } = each.attached;
  const told = { id, parent: ID.test(parent) ? parent : null, at: Number(at) || 0 };
  if (each.role === "assistant") return { ...told, role: "assistant", text: "", answer: readAnswer(answer ?? {}, textOf(each)) };
  const images = partsOf(each).map((part) => part.image_url).filter((url) => typeof url === "string" && PICTURE.test(url));
  return { ...told, role: "user", text: textOf(each), ...(images.length ? { images } : {}) };
}

/** @returns {import("./stream.js").Answer} */
function readAnswer(given, text) {
  const blank = newAnswer({});
  const same = ([name, value]) => name in blank && typeof value === typeof blank[name] && Array.isArray(value) === Array.isArray(blank[name]);
  /** @type {import("./stream.js").Answer} */
  const found = { ...blank, ...Object.fromEntries(Object.entries(given).filter(same)), offsets: [] };
  found.usage = typeof given.usage?.completion_tokens === "number" ? given.usage : null;
  found.body = { ...found.body, model: String(found.body?.model ?? "") };
  found.state = STATES.includes(found.state) ? found.state : "stopped";
  found.id = ID.test(found.id) ? found.id : "";
  if (open(found) && !found.id) found.state = "stopped"; // nobody could read it on
  found.tools = found.tools.filter(Boolean).map((tool) => ({ name: String(tool.name), arguments: String(tool.arguments) }));
  found.leases = found.leases.filter(Boolean).map((lease) => ({ ...lease, worker: String(lease.worker) }));
  found.seams = found.seams.filter(Boolean).map(({ offset, gap, title, lease }) => ({
    offset: Number(offset) || 0, gap: typeof gap === "number" ? gap : null, title: String(title), lease: String(lease),
  }));
  return { ...found, text: open(found) ? found.prefix : text };
}
