// Conversations, kept in this browser: trees of messages, so that an edited question or another answer is a branch.

const PREFIX = "millstream.talk.";
const SAVE_EVERY = 250; // ms between two writes while an answer grows

/**
 * @typedef {{id: string, parent: string | null, role: "user" | "assistant", text: string, at?: number, images?: string[],
 *   answer?: import("./stream.js").Answer}} Message `images`: as data: URLs
 * @typedef {{id: string, title: string, changed: number, model: string, settings: Record<string, any>, leaf: string | null,
 *   messages: Record<string, Message>, temporary?: boolean, owner?: string}} Conversation a temporary one is not kept;
 *   `owner`: the tenant whose it is
 */

// "list": which there are; "saved": one of them, in `detail`; "message": one that changed, by its id in `detail`
/** @type {{addEventListener(name: string, heard: (event: any) => void): void, dispatchEvent(event: Event): boolean,
 *   removeEventListener(name: string, heard: (event: any) => void): void}} */
export const changes = new EventTarget();
const waiting = new Map();
let tenant = "";

/** Sets whose conversations are shown: another tenant's, in the same browser, are not. @param {string} name */
export function setOwner(name) {
  tenant = name;
}

const own = (talk) => !talk.owner || talk.owner === tenant;

export const fresh = () => crypto.randomUUID?.() ?? [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** @param {string} model @param {object} settings @returns {Conversation} */
export function begin(model, settings) {
  return { id: fresh(), title: "", changed: Date.now(), model, settings, leaf: null, messages: {} };
}

/** All conversations without their messages, the newest first. */
export function list() {
  const found = [];
  for (let at = 0; at < localStorage.length; at++) {
    const name = localStorage.key(at);
    if (!name?.startsWith(PREFIX)) continue;
    const talk = read(name);
    if (talk && own(talk)) found.push({ id: talk.id, title: talk.title, changed: talk.changed });
  }
  return found.sort((a, b) => b.changed - a.changed);
}

function read(name) {
  try {
    return JSON.parse(localStorage.getItem(name) ?? "null");
  } catch {
    return null;
  }
}

/** @param {string} id @returns {Conversation | null} */
export function load(id) {
  const talk = read(PREFIX + id);
  return talk && own(talk) ? talk : null;
}

/** @param {string} id */
export function remove(id) {
  clearTimeout(waiting.get(id)?.timer);
  waiting.delete(id);
  localStorage.removeItem(PREFIX + id);
  changes.dispatchEvent(new Event("list"));
}

/** Writes a conversation now. The oldest others make room where the browser has none left. @param {Conversation} talk */
export function save(talk) {
  if (talk.temporary) return;
  clearTimeout(waiting.get(talk.id)?.timer);
  waiting.delete(talk.id);
  talk.owner ||= tenant;
  put(talk);
  changes.dispatchEvent(new CustomEvent("saved", { detail: talk }));
}

/** Writes it in this browser alone. @param {Conversation} talk */
export function put(talk) {
  const text = JSON.stringify(talk);
  const others = list().filter((each) => each.id !== talk.id);
  for (;;) {
    try {
      localStorage.setItem(PREFIX + talk.id, text);
      return;
    } catch {
      const oldest = others.pop();
      if (!oldest) return;
      localStorage.removeItem(PREFIX + oldest.id);
      changes.dispatchEvent(new Event("list"));
    }
  }
}

/** Writes it soon: an answer that grows is not written with each token. @param {Conversation} talk */
export function saveSoon(talk) {
  if (!talk.temporary && !waiting.has(talk.id)) waiting.set(talk.id, { talk, timer: setTimeout(() => save(talk), SAVE_EVERY) });
}

/** Writes everything that waits: the page may not come back. */
export function flush() {
  for (const { talk } of [...waiting.values()]) save(talk);
}
addEventListener("pagehide", flush);
document.addEventListener("visibilitychange", () => document.hidden && flush());

// Another tab has written a conversation: "elsewhere", with its id in `detail`.
addEventListener("storage", ({ key }) => {
  if (!key?.startsWith(PREFIX)) return;
  changes.dispatchEvent(new Event("list"));
  changes.dispatchEvent(new CustomEvent("elsewhere", { detail: key.slice(PREFIX.length) }));
});

/** The messages from the first to the one shown last. @param {Conversation} talk @param {string | null} leaf @returns {Message[]} */
export function path(talk, leaf = talk.leaf) {
  const found = [];
  for (let at = leaf; at; at = talk.messages[at]?.parent ?? null) if (talk.messages[at]) found.unshift(talk.messages[at]);
  return found;
}

/** Adds a message after its parent and shows it. @param {Conversation} talk @param {Omit<Message, "id">} message @returns {Message} */
export function add(talk, message) {
  const made = { id: fresh(), at: Date.now(), ...message };
  talk.messages[made.id] = made;
  talk.leaf = made.id;
  talk.changed = Date.now();
  if (!talk.title && made.role === "user") talk.title = made.text.slice(0, 80);
  save(talk);
  changes.dispatchEvent(new Event("list"));
  return made;
}

/** The other versions of a message, itself included, the oldest first. @param {Conversation} talk @param {Message} message */
export const siblings = (talk, message) => Object.values(talk.messages).filter((each) => each.parent === message.parent);

/** Shows another version of a message, down to its newest answer. @param {Conversation} talk @param {string} id */
export function show(talk, id) {
  let at = id;
  for (;;) {
    const next = Object.values(talk.messages).filter((each) => each.parent === at).at(-1);
    if (!next) break;
    at = next.id;
  }
  talk.leaf = at;
  save(talk);
}

/** What the API is told of the messages up to `leaf`. @param {Conversation} talk @param {string | null} leaf
 * @param {boolean} sees whether the model is shown the pictures */
export function asked(talk, leaf, sees = true) {
  const system = talk.settings.system?.trim();
  const said = path(talk, leaf).map((message) => ({ role: message.role, content: content(message, sees) }));
  return [...(system ? [{ role: "system", content: system }] : []), ...said];
}

/** @param {Message} message @param {boolean} sees */
function content({ text, answer, images }, sees) {
  if (answer) return answer.text;
  if (!images?.length || !sees) return text;
  const shown = images.map((url) => ({ type: "image_url", image_url: { url } }));
  return [...(text ? [{ type: "text", text }] : []), ...shown];
}
