// Small pieces that several views use.

import { html, useEffect, useRef, useState } from "../vendor/preact-htm.js";
import { rendered } from "./markdown.js";
import { t } from "./words.js";

export const MONO = "ui-monospace, monospace";

/** What a model wrote. @param {{text: string, seams?: import("./stream.js").Seam[], busy?: boolean}} props */
export function Markdown({ text, seams = [], busy = false }) {
  const place = useRef(null);
  const near = useNear(place);
  const seamed = seams.map((seam) => seam.offset).join();
  useEffect(() => place.current.replaceChildren(near ? rendered(text, seams) : document.createTextNode(text)), [text, seamed, near]);
  return html`<div class=${busy ? "md caret" : "md"} dir="auto" ref=${place}></div>`;
}

/** Tells whether an element is, or has been, near what is in sight: a long conversation is not rendered as a whole. */
function useNear(place) {
  const [near, setNear] = useState(false);
  useEffect(() => {
    const watch = new IntersectionObserver((told) => told.some((each) => each.isIntersecting) && setNear(true), { rootMargin: "800px" });
    watch.observe(place.current);
    return () => watch.disconnect();
  }, []);
  return near;
}

/** A button that copies a text. */
export function Copy({ text, label }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return html`<button class="plain small" type="button" onClick=${copy}>${done ? t("copied") : label ?? t("copy")}</button>`;
}

/** A line to paste into a shell. */
export function Line({ text }) {
  return html`<div class="row"><pre class="line grow">${text}</pre><${Copy} text=${text} /></div>`;
}

/** Runs `load` now and every so often while the view is there; what it found last, and why it failed.
 * @param {() => Promise<any>} load @param {number} every ms; 0: only now @param {any[]} deps @returns {{found: any, error: string, reload: () => void}} */
export function usePolled(load, every, deps = []) {
  const [state, setState] = useState({ found: null, error: "" });
  const again = useRef(() => {});
  useEffect(() => {
    let gone = false;
    const look = async () => {
      try {
        const found = await load();
        if (!gone) setState({ found, error: "" });
      } catch (error) {
        if (!gone) setState((before) => ({ found: before.found, error: error.message }));
      }
    };
    again.current = look;
    look();
    const timer = every ? setInterval(() => document.hidden || look(), every) : 0;
    return () => ((gone = true), clearInterval(timer));
  }, deps);
  return { ...state, reload: () => again.current() };
}

/** @param {number | null | undefined} value seconds */
export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 10) return `${value.toFixed(1)} s`;
  return value < 120 ? `${Math.round(value)} s` : `${Math.round(value / 60)} min`;
}

export const number = (value, digits = 0) =>
  value === null || value === undefined ? "–" : Number(value).toLocaleString(undefined, { maximumFractionDigits: digits });

export const bytes = (value) =>
  value === null || value === undefined ? "–" : value < 2 ** 20 ? `${number(value / 1024)} KiB` : `${number(value / 2 ** 20, 1)} MiB`;

/** A table with a head; `rows` are arrays of cells, `keys` their identities. */
export function Table({ head, rows, empty, numbers = [] }) {
  if (!rows.length) return html`<p class="soft">${empty}</p>`;
  const kind = (at) => (numbers.includes(at) ? "number" : "");
  return html`<div class="scroll"><table class="data">
    <thead><tr>${head.map((name, at) => html`<th class=${kind(at)} scope="col">${name}</th>`)}</tr></thead>
    <tbody>${rows.map((row) => html`<tr key=${row.key}>${row.cells.map((cell, at) => html`<td class=${kind(at)}>${cell}</td>`)}</tr>`)}</tbody>
  </table></div>`;
}
