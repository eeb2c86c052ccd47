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

const LONG = 150; // rows; a longer table is drawn by blocks, only those that are nearly in sight
const BLOCK = 50; // rows
const ROW = 30; // px, of a row that was never drawn

/** A table with a head; `rows` are arrays of cells, `keys` their identities. */
export function Table({ head, rows, empty, numbers = [] }) {
  if (!rows.length) return html`<p class="soft">${empty}</p>`;
  const kind = (at) => (numbers.includes(at) ? "number" : "");
  const shown = (row, at) => html`<tr key=${row.key} aria-rowindex=${at + 2}>${row.cells.map((cell, at) => html`<td class=${kind(at)}>${cell}</td>`)}</tr>`;
  const blocks = rows.length > LONG ? Array.from({ length: Math.ceil(rows.length / BLOCK) }, (_, at) => at * BLOCK) : null;
  return html`<div class="scroll"><table class="data" aria-rowcount=${rows.length + 1}>
    <thead><tr>${head.map((name, at) => html`<th class=${kind(at)} scope="col">${name}</th>`)}</tr></thead>
    ${blocks
      ? blocks.map((from) => html`<${Block} key=${from} rows=${rows.slice(from, from + BLOCK)} from=${from} shown=${shown} columns=${head.length} />`)
      : html`<tbody>${rows.map(shown)}</tbody>`}
  </table></div>`;
}

/** Some rows of a long table: drawn while they are nearly in sight, otherwise an empty row as high as they were. */
function Block({ rows, from, shown, columns }) {
  const place = useRef(null);
  const height = useRef(rows.length * ROW);
  const [near, setNear] = useState(from === 0);
  useEffect(() => {
    const look = (told) => {
      const inside = told.at(-1).isIntersecting;
      if (!inside) height.current = place.current.offsetHeight;
      setNear(inside);
    };
    const watch = new IntersectionObserver(look, /** @type {any} */ ({ rootMargin: "600px", scrollMargin: "600px" }));
    watch.observe(place.current);
    return () => watch.disconnect();
  }, []);
  const space = html`<tr aria-hidden="true"><td colspan=${columns} style=${{ height: `${height.current}px` }}></td></tr>`;
  return html`<tbody ref=${place}>${near ? rows.map((row, at) => shown(row, from + at)) : space}</tbody>`;
}
