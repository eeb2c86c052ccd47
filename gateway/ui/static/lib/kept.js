// The browser's notes of what the gateway has of each conversation.

/**
 * @typedef {{id: string, created: number, meta: string, items: Record<string, {item: string, version: string}>}} Kept
 *   what the gateway has of a conversation, as far as this browser knows
 */

const PREFIX = "millstream.kept.";
/** @type {Map<string, Kept>} */
const unwritten = new Map();

/** @param {string} id @returns {Kept | null} */
export function keptOf(id) {
  try {
    return JSON.parse(localStorage.getItem(PREFIX + id) ?? "null") ?? unwritten.get(id) ?? null;
  } catch {
    return null;
  }
}

/** @param {string} id @param {Kept | null} kept */
export function note(id, kept) {
  localStorage.removeItem(PREFIX + id);
  unwritten.delete(id);
  if (!kept) return;
  try {
    localStorage.setItem(PREFIX + id, JSON.stringify(kept));
  } catch {
    unwritten.set(id, kept); // the browser is full
  }
}
