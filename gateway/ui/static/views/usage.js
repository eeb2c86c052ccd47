// What was used, by day, model and tenant.

import { html } from "../vendor/preact-htm.js";
import { get } from "../lib/api.js";
import { Table, number, usePolled } from "../lib/parts.js";
import { t } from "../lib/words.js";

async function load() {
  try {
    return (await get("v1/usage?tenant=*")).data;
  } catch (error) {
    if (error.status !== 403) throw error;
    return (await get("v1/usage")).data;
  }
}

export function Usage() {
  const { found, error } = usePolled(load, 10_000);
  const data = (found ?? []).toSorted((a, b) => (a.date < b.date ? 1 : -1) || b.total_tokens - a.total_tokens);
  const rows = data.map((each) => ({
    key: `${each.date} ${each.model} ${each.tenant}`,
    cells: [each.date, each.model, each.tenant, each.jobs, number(each.prompt_tokens), number(each.completion_tokens), number(each.total_tokens)],
  }));
  return html`<div class="page">${error && html`<p class="bad" role="alert">${error}</p>`}
    <section class="panel"><h2>${t("usage")}</h2><${Days} data=${data} />
      <${Table} head=${[t("day"), t("model"), t("tenant"), t("jobs"), t("prompt"), t("completion"), t("total")]} rows=${rows} empty=${t("no_usage")} numbers=${[3, 4, 5, 6]} />
    </section></div>`;
}

/** Tokens of each day as bars. */
function Days({ data }) {
  const days = new Map();
  for (const each of data) days.set(each.date, (days.get(each.date) ?? 0) + each.total_tokens);
  const found = [...days].toSorted();
  if (!found.length) return null;
  const most = Math.max(...found.map(([, total]) => total), 1);
  const width = 700 / Math.max(found.length, 7);
  return html`<svg class="plot" viewBox="0 0 700 140" role="img" aria-label=${found.map(([day, total]) => `${day}: ${total}`).join(", ")}>
    ${found.map(([day, total], at) => html`<g key=${day}><rect x=${at * width + 4} y=${115 - (100 * total) / most} width=${Math.min(width - 8, 60)} height=${(100 * total) / most} fill="var(--accent)"><title>${day}: ${total}</title></rect>
      <text x=${at * width + 4} y="132">${day.slice(5)}</text></g>`)}
  </svg>`;
}
