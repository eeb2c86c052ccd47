// What was used, by day, model and tenant.

import { html, useState } from "../vendor/preact-htm.js";
import { get } from "../lib/api.js";
import { Table, number, usePolled } from "../lib/parts.js";
import { Bars, series } from "../lib/plot.js";
import { t } from "../lib/words.js";

const DAY = 86_400_000; // ms
const MOST_DAYS = 92; // shown as bars

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
    ${data.length > 0 && html`<${Days} data=${data} />
      <div class="halves"><${Shares} data=${data} by="model" /><${Shares} data=${data} by="tenant" /></div>`}
    <section class="panel"><h2>${t("usage")}</h2>
      <${Table} head=${[t("day"), t("model"), t("tenant"), t("jobs"), t("prompt"), t("completion"), t("total")]} rows=${rows} empty=${t("no_usage")} numbers=${[3, 4, 5, 6]} />
    </section></div>`;
}

/** Every day from the first to the last, also those on which nothing was used. @param {string[]} dates */
function everyDay(dates) {
  const last = Date.parse(dates[dates.length - 1]);
  const first = Math.max(Date.parse(dates[0]), last - (MOST_DAYS - 1) * DAY);
  const days = [];
  for (let at = first; at <= last; at += DAY) days.push(new Date(at).toISOString().slice(0, 10));
  return days;
}

/** Tokens of each day as bars, parted by model or by tenant, and the same as a table. */
function Days({ data }) {
  const [by, setBy] = useState("model");
  const days = everyDay([...new Set(data.map((each) => each.date))].sort());
  const groups = series(data, by, "date", "total_tokens");
  const rows = days.toReversed().map((day) => ({ key: day, cells: [day, ...groups.map(({ values }) => number(values[day] ?? 0))] }));
  return html`<section class="panel days"><div class="row"><h2 class="grow">${t("tokens_by_day")}</h2>
      <label>${t("parted_by")} <select value=${by} onChange=${(e) => setBy(e.target.value)}>
        <option value="model">${t("model")}</option><option value="tenant">${t("tenant")}</option></select></label></div>
    <${Bars} xs=${days} groups=${groups} label=${t("tokens_by_day")} />
    <details><summary>${t("as_table")}</summary>
      <${Table} head=${[t("day"), ...groups.map(({ name }) => name)]} rows=${rows} empty="" numbers=${groups.map((_, at) => at + 1)} /></details>
  </section>`;
}

/** The sums of all days, each with its share as a bar. */
function Shares({ data, by }) {
  const groups = series(data, by, by, "total_tokens").map(({ name, values }) => ({ name, total: Object.values(values).reduce((sum, each) => sum + each, 0) }));
  const all = groups.reduce((sum, { total }) => sum + total, 0) || 1;
  const bar = (share, index) => html`<div class="bar-outer"><div class=${`bar-inner colour-${index}`} style=${{ width: `${share * 100}%` }}></div></div>`;
  const rows = groups.map(({ name, total }, index) => ({ key: name, cells: [name, number(total), `${number((total / all) * 100, 1)} %`, bar(total / all, index)] }));
  return html`<section class=${`panel share-${by}`}><h2>${t(by)}</h2>
    <${Table} head=${["", t("tokens"), t("share"), ""]} rows=${rows} empty="" numbers=${[1, 2]} /></section>`;
}
