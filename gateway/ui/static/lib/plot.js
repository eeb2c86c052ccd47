// Plots drawn as SVG. A plot is only a picture of a table: each stands beside one that says the same in numbers.

import { html } from "../vendor/preact-htm.js";
import { number } from "./parts.js";
import { t } from "./words.js";

export const MOST_GROUPS = 6; // colours there are; what is less becomes "others"
const WIDTH = 700;
const HEIGHT = 180;
const LEFT = 56; // for the numbers of the axis
const BOTTOM = 22; // for the days

/**
 * @typedef {{name: string, values: Record<string, number>}} Series `values`: by what the x axis has
 */

/** Rows to series by a field, the largest first; those beyond the colours together as one.
 * @param {any[]} rows @param {string} by @param {string} x @param {string} y @returns {Series[]} */
export function series(rows, by, x, y) {
  const sums = new Map();
  for (const row of rows) {
    const found = sums.get(row[by]) ?? sums.set(row[by], { name: row[by], values: {}, total: 0 }).get(row[by]);
    found.values[row[x]] = (found.values[row[x]] ?? 0) + row[y];
    found.total += row[y];
  }
  const sorted = [...sums.values()].sort((a, b) => b.total - a.total);
  if (sorted.length <= MOST_GROUPS) return sorted;
  const rest = { name: t("others"), values: {} };
  for (const { values } of sorted.splice(MOST_GROUPS - 1)) {
    for (const [at, value] of Object.entries(values)) rest.values[at] = (rest.values[at] ?? 0) + value;
  }
  return [...sorted, rest];
}

/** A round number that is no less. @param {number} most */
function ceiling(most) {
  const step = 10 ** Math.floor(Math.log10(Math.max(most, 1)));
  return Math.max(Math.ceil(most / step) * step, 1);
}

/** Lines of the y axis with their numbers. */
function Axis({ low = 0, high }) {
  const at = (share) => 8 + (1 - share) * (HEIGHT - BOTTOM - 8);
  return [0, 0.5, 1].map((share) => html`<g key=${share}><line class="grid" x1=${LEFT} x2=${WIDTH} y1=${at(share)} y2=${at(share)} />
    <text x=${LEFT - 6} y=${at(share) + 3} text-anchor="end">${number(low + (high - low) * share)}</text></g>`);
}

/** Bars over days, the parts of each on top of one another. @param {{xs: string[], groups: Series[], label: string}} props */
export function Bars({ xs, groups, label }) {
  const sum = (x) => groups.reduce((total, { values }) => total + (values[x] ?? 0), 0);
  const high = ceiling(Math.max(...xs.map(sum), 1));
  const step = (WIDTH - LEFT) / Math.max(xs.length, 7);
  const tall = HEIGHT - BOTTOM - 8;
  const every = Math.ceil(xs.length / 12); // days whose names have room
  const bar = (x, index) => {
    let top = HEIGHT - BOTTOM;
    return groups.map(({ name, values }, group) => {
      const size = ((values[x] ?? 0) / high) * tall;
      top -= size;
      return size > 0 && html`<rect key=${name} class=${`colour-${group}`} x=${LEFT + index * step + step * 0.12} y=${top} width=${Math.min(step * 0.76, 60)} height=${size}>
        <title>${x} · ${name}: ${number(values[x])}</title></rect>`;
    });
  };
  return html`<figure class="plot">
    <svg class="plot" viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label=${label}><${Axis} high=${high} />
      ${xs.map((x, index) => html`<g key=${x}>${bar(x, index)}${index % every === 0 && html`<text x=${LEFT + index * step + step * 0.12} y=${HEIGHT - 6}>${x.slice(5)}</text>`}</g>`)}
    </svg>
    <${Legend} names=${groups.map(({ name }) => name)} />
  </figure>`;
}

/** Lines over moments of equal distance; one without a value is left out. @param {{groups: {name: string, values: (number | null)[]}[], length: number, label: string}} props */
export function Lines({ groups, length, label }) {
  const values = groups.flatMap((group) => group.values.filter((value) => value !== null));
  const [low, high] = [Math.min(...values), Math.max(...values, Math.min(...values) + 1)];
  const x = (at) => LEFT + (at / Math.max(length - 1, 1)) * (WIDTH - LEFT);
  const y = (value) => 8 + (1 - (value - low) / (high - low)) * (HEIGHT - BOTTOM - 8);
  const points = (group) => group.values.map((value, at) => (value === null ? "" : `${x(at).toFixed(1)},${y(value).toFixed(1)}`)).filter(Boolean).join(" ");
  return html`<figure class="plot">
    <svg class="plot" viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label=${label}><${Axis} low=${low} high=${high} />
      ${groups.map((group, index) => html`<polyline key=${group.name} class=${`line-${index}`} fill="none" points=${points(group)}><title>${group.name}</title></polyline>`)}
    </svg>
    <${Legend} names=${groups.map(({ name }) => name)} />
  </figure>`;
}

function Legend({ names }) {
  return html`<figcaption class="row small">${names.map((name, index) => html`<span key=${name}>
    <svg class=${`colour-${index}`} width="12" height="12" aria-hidden="true"><rect width="12" height="12" /></svg> ${name}</span>`)}</figcaption>`;
}
