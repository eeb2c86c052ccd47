// Conversations on the gateway: what is said here goes there, and what was said on another device comes here.
//
// The browser's own copy is written and shown first. So nothing waits for the gateway, and one that keeps nothing, or is
// away, costs no more than a sentence.

import { grows, inMemory } from "./answers.js";
import { ApiError, ask, get } from "./api.js";
import { changes, list, load, put, remove, save } from "./conversations.js";
import { keptSettings, merge, outdated, parts, seen } from "./items.js";
import { keptOf, note } from "./kept.js";

/**
 * @typedef {import("./conversations.js").Conversation} Conversation
 * @typedef {import("./kept.js").Kept} Kept
 */

const PATH = "v1/conversations";
const OURS = "metadata[page]=chat";
const LISTED = 200; // conversations that are listed at first, and so many more each time that older ones are wanted
const MOST_ITEMS = 5000; // of one conversation
const PUSH_ITEMS = 20; // at once, as the API has it
const PUSH_CHARS = 1_000_000; // at once, unless one item alone is longer
const PUSH_AFTER = 400; // ms
const LONGEST_TITLE = 200;

/** "kept", or why not: "none" where the gateway has no store, "away" while it does not answer, "refused" with its words. */
export const keeping = { state: "", message: "", more: false }; // `more`: the gateway has older ones than are listed
let most = LISTED;
/** @type {Map<string, any>} the gateway's conversations, by the ids they have here */
let there = new Map();
/** @type {Map<string, Promise<void>>} */
const pushes = new Map();
/** @type {Map<string, number>} */
const timers = new Map();

function tell(state, message = "") {
  if (keeping.state === state && keeping.message === message) return;
  Object.assign(keeping, { state, message });
  changes.dispatchEvent(new Event("list"));
}

function failed(error) {
  if (!(error instanceof ApiError)) return tell("away");
  if ([404, 405].includes(error.status) || error.param === "conversation") return tell("none", error.message);
  tell(error.status < 500 ? "refused" : "away", error.message);
}

/** What a conversation is listed by. @param {Conversation} talk */
function meta(talk) {
  return {
    page: "chat", talk: talk.id, title: talk.title.slice(0, LONGEST_TITLE), model: talk.model.slice(0, 500),
    leaf: talk.leaf ?? "", changed: String(talk.changed),
  };
}

/** @param {Conversation} talk @param {Kept | null} kept */
const news = (talk, kept) => parts(talk).filter(({ id, version }) => kept?.items[id]?.version !== version);
const dirty = (talk, kept) => kept?.meta !== JSON.stringify(meta(talk)) || news(talk, kept).length > 0;

/** Looks which conversations there are, and takes up what was done with them elsewhere. */
export async function look() {
  try {
    const { found, whole, since } = await listed();
    there = new Map(found.filter((each) => each.metadata.talk).map((each) => [each.metadata.talk, each]));
    for (const { id } of list()) settle(id, whole, since);
    keeping.more = !whole;
    tell("kept");
    changes.dispatchEvent(new Event("list"));
  } catch (error) {
    failed(error);
  }
}

/** Lists older conversations, too. */
export async function lookFurther() {
  most += LISTED;
  await look();
}

async function listed() {
  const found = [];
  for (let after = ""; ; after = found.at(-1).id) {
    const page = await get(`${PATH}?limit=100&${OURS}${after && `&after=${after}`}`);
    found.push(...page.data);
    if (!page.has_more || found.length >= most) return { found, whole: !page.has_more, since: page.store_started_at };
  }
}

/** Compares a conversation of this browser with the gateway's list. */
function settle(id, whole, since) {
  const talk = inMemory(id) ?? load(id);
  if (!talk || pushes.has(id)) return;
  const kept = keptOf(id);
  const theirs = there.get(id);
  if (kept && !theirs && whole) {
    // Made since the store was started, and not listed: deleted elsewhere, or expired. An earlier one may have been lost.
    if (kept.created >= since && !inMemory(id)) return forget(id);
    note(id, null);
  } else if (kept && theirs) takeMeta(talk, kept, theirs.metadata);
  if (dirty(talk, keptOf(id))) soon(talk);
}

function forget(id) {
  note(id, null);
  remove(id);
  changes.dispatchEvent(new CustomEvent("gone", { detail: id }));
}

/** Takes the name that was given elsewhere. @param {Conversation} talk @param {Kept} kept @param {any} theirs */
function takeMeta(talk, kept, theirs) {
  // What another device sent before this one may have come after it.
  if (Number(theirs.changed) < talk.changed) note(talk.id, { ...kept, meta: "" });
  if (!(Number(theirs.changed) > talk.changed)) return;
  Object.assign(talk, { title: theirs.title, model: theirs.model });
  put(talk);
  note(talk.id, { ...kept, meta: JSON.stringify(meta(talk)) });
}

/** Sends soon what is new in a conversation. @param {Conversation} talk */
function soon(talk) {
  if (keeping.state === "none" || timers.has(talk.id)) return;
  timers.set(talk.id, setTimeout(() => (timers.delete(talk.id), push(talk)), PUSH_AFTER));
}
changes.addEventListener("saved", (event) => soon(/** @type {CustomEvent} */ (event).detail));

/** Sends what is new; one push of a conversation after the other. @param {Conversation} talk */
async function push(talk) {
  if (pushes.has(talk.id)) return soon(talk);
  if (talk.temporary || !Object.keys(talk.messages).length || !dirty(talk, keptOf(talk.id))) return;
  const pushing = send(talk).then(() => tell("kept"), failed);
  pushes.set(talk.id, pushing);
  await pushing;
  pushes.delete(talk.id);
  if (isNews(talk)) changes.dispatchEvent(new Event("list"));
}

/** @param {Conversation} talk */
async function send(talk) {
  const about = meta(talk);
  const kept = keptOf(talk.id) ?? known(talk.id) ?? (await make(talk.id, about));
  try {
    await sendItems(talk, kept);
    if (kept.meta !== JSON.stringify(about)) await sendMeta(talk, kept.id, about);
  } catch (error) {
    if (error.status !== 404) throw error;
    // Deleted elsewhere while it was gone on with here: it begins anew.
    there.delete(talk.id);
    note(talk.id, null);
    return soon(talk);
  }
  if (!talk.temporary) note(talk.id, { ...kept, meta: JSON.stringify(about) });
}

/** Sends what the conversation is listed by, unless it was gone on with elsewhere meanwhile: that is taken over then. */
async function sendMeta(talk, conversation, about) {
  const now = await get(`${PATH}/${conversation}`);
  there.set(talk.id, now);
  if (!isNews(talk)) there.set(talk.id, await get(`${PATH}/${conversation}`, { json: { metadata: about } }));
}

/** @returns {Kept | null} */
function known(id) {
  const found = there.get(id);
  return found ? { id: found.id, created: found.created_at, items: {}, meta: "" } : null;
}

async function make(id, about) {
  const made = await get(PATH, { json: { metadata: about } });
  there.set(id, made);
  const kept = { id: made.id, created: made.created_at, items: {}, meta: JSON.stringify(about) };
  note(id, kept);
  return kept;
}

/** @param {Conversation} talk @param {Kept} kept changed in place */
async function sendItems(talk, kept) {
  const left = news(talk, kept);
  while (left.length) {
    const some = portion(left);
    const { data } = await get(`${PATH}/${kept.id}/items`, { json: { items: some.map(({ made }) => made) } });
    const old = some.map(({ id }) => kept.items[id]?.item).filter(Boolean);
    some.forEach(({ id, version }, at) => (kept.items[id] = { item: data[at].id, version }));
    note(talk.id, kept);
    await clear(kept.id, old);
  }
}

/** As many as one request may bring. */
function portion(left) {
  const some = [];
  for (let chars = 0; left.length && some.length < PUSH_ITEMS; ) {
    const made = left[0].make();
    chars += JSON.stringify(made).length;
    if (some.length && chars > PUSH_CHARS) break;
    some.push({ ...left.shift(), made });
  }
  return some;
}

/** Deletes items of which there is a later version. */
async function clear(conversation, items) {
  for (const item of items) await ask(`${PATH}/${conversation}/items/${item}`, { method: "DELETE" }).catch(() => {});
}

/** The conversation with all that is kept of it; null if there is none. @param {string} id @returns {Promise<Conversation | null>} */
export async function fetched(id) {
  const theirs = there.get(id);
  if (!theirs || pushes.has(id)) return load(id);
  const items = await everyItem(theirs.id);
  const own = load(id);
  const talk = own ?? { id, title: "", changed: 0, model: "", settings: {}, leaf: null, messages: {} };
  const kept = keptOf(id);
  const mine = parts(talk).find((part) => part.id === "settings")?.version;
  const settings = keptSettings(items);
  if (settings && (!own || mine === kept?.items.settings?.version)) talk.settings = settings;
  const changed = merge(talk, items, grows);
  const later = Number(theirs.metadata.changed) > talk.changed;
  if (later) takeOver(talk, theirs.metadata);
  if (later || (changed && !talk.leaf)) lead(talk, theirs.metadata.leaf);
  note(id, { id: theirs.id, created: theirs.created_at, items: seen(items), meta: later || !kept ? JSON.stringify(meta(talk)) : kept.meta });
  put(talk);
  clear(theirs.id, outdated(items));
  return talk;
}

/** @param {Conversation} talk @param {any} theirs */
function takeOver(talk, { title = "", model = "", changed }) {
  Object.assign(talk, { title, model, changed: Number(changed) });
}

/** Shows the branch that was shown last, or else the newest. */
function lead(talk, leaf) {
  talk.leaf = leaf && Object.hasOwn(talk.messages, leaf) ? leaf : (talk.leaf ?? Object.keys(talk.messages).at(-1) ?? null);
}

/** Tells whether a conversation was gone on with elsewhere. @param {Conversation} talk */
export const isNews = (talk) => Number(there.get(talk.id)?.metadata.changed) > talk.changed;

async function everyItem(id) {
  const found = [];
  for (let after = ""; found.length < MOST_ITEMS; after = found.at(-1).id) {
    const page = await get(`${PATH}/${id}/items?order=asc&limit=100${after && `&after=${after}`}`);
    found.push(...page.data);
    if (!page.has_more) break;
  }
  return found;
}

/** All conversations, those of this browser and those of the gateway, the newest first. */
export function everyTalk() {
  const here = list();
  const names = new Set(here.map((each) => each.id));
  const others = [...there].filter(([id]) => !names.has(id));
  const listed = others.map(([id, { metadata }]) => ({ id, title: metadata.title ?? "", changed: Number(metadata.changed) || 0 }));
  return [...here, ...listed].sort((a, b) => b.changed - a.changed);
}

/** @param {string} id @param {string} title */
export async function rename(id, title) {
  const talk = inMemory(id) ?? (await fetched(id));
  if (!talk) return;
  talk.title = title.trim().slice(0, LONGEST_TITLE);
  talk.changed = Date.now();
  save(talk);
  changes.dispatchEvent(new Event("list"));
}

/** Deletes it here and there. Throws what the gateway said where it could not. @param {string} id */
export async function drop(id) {
  clearTimeout(timers.get(id));
  timers.delete(id);
  await pushes.get(id);
  const own = keptOf(id)?.id ?? there.get(id)?.id;
  if (own) {
    await ask(`${PATH}/${own}`, { method: "DELETE" }).catch((error) => {
      if (error.status !== 404) throw error;
    });
  }
  there.delete(id);
  forget(id);
}
