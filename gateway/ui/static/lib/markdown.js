// What a model wrote, as a part of the page: rendered by marked, cleaned by DOMPurify, and nothing fetched for it.

import DOMPurify from "../vendor/purify.js";
import { marked } from "../vendor/marked.js";

const RULES = {
  USE_PROFILES: { html: true },
  FORBID_TAGS: ["style", "img", "picture", "video", "audio", "source", "form", "input", "button", "select", "textarea", "iframe"],
  FORBID_ATTR: ["style", "id", "name", "class"],
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};
export const MARK = "\uE000"; // stands in the text where another lease went on

/**
 * @param {string} text
 * @param {{offset: number, title: string}[]} seams where in the text another worker went on
 * @returns {DocumentFragment}
 */
export function rendered(text, seams = []) {
  const marked_ = withMarks(text.replaceAll(MARK, " "), seams);
  const fragment = DOMPurify.sanitize(marked.parse(marked_, { gfm: true, breaks: true, async: false }), RULES);
  for (const link of fragment.querySelectorAll("a")) {
    if (!/^(https?:|mailto:)/i.test(link.getAttribute("href") ?? "")) link.removeAttribute("href");
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
  }
  if (seams.length) showMarks(fragment, seams);
  return fragment;
}

/** A mark goes to the end of its word, so that it parts no markup. */
function withMarks(text, seams) {
  let out = "";
  let at = 0;
  for (const { offset } of seams) {
    const space = text.slice(offset).search(/\s/);
    const place = Math.max(at, space < 0 ? text.length : offset + space);
    out += text.slice(at, place) + MARK;
    at = place;
  }
  return out + text.slice(at);
}

function showMarks(fragment, seams) {
  const walker = document.createTreeWalker(fragment, NodeFilter.SHOW_TEXT);
  /** @type {any[]} */
  const found = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) if (node.nodeValue?.includes(MARK)) found.push(node);
  const left = [...seams];
  for (const node of found) {
    const parts = node.data.split(MARK);
    node.data = parts[0];
    let last = node;
    for (const part of parts.slice(1)) {
      const mark = document.createElement("span");
      mark.className = "seam";
      mark.title = left.shift()?.title ?? "";
      mark.textContent = "⤳";
      mark.setAttribute("role", "img");
      mark.setAttribute("aria-label", mark.title);
      const text = document.createTextNode(part);
      last.after(mark, text);
      last = text;
    }
  }
}
