// Jobs that ended and are still kept: how they ended, and the way to the life of each.

import { html, useEffect, useState } from "../vendor/preact-htm.js";
import { listed } from "../lib/api.js";
import { Table, number, usePolled } from "../lib/parts.js";
import { t } from "../lib/words.js";
import { JobLink } from "./job.js";

const STATES = ["ended", "finished", "failed", "cancelled", "expired", "dead"];
const PAGE = 20;

/** @param {{models: {id: string}[], admin: boolean}} props */
export function Ended({ models, admin }) {
  const [asked, setAsked] = useState({ state: "ended", model: "", tenant: "" });
  const [most, setMost] = useState(PAGE);
  const { found, error } = usePolled(() => listed("v1/jobs", most, asked), 4000, [asked, most]);
  useEffect(() => setMost(PAGE), [asked]);
  const choice = (name, options) => html`<label>${t(name)} <select value=${asked[name]} onChange=${(e) => setAsked({ ...asked, [name]: e.target.value })}>${options}</select></label>`;
  const head = [t("jobs"), t("model"), t("state"), ...(admin ? [t("tenant")] : []), t("worker"), t("tokens"), t("when"), t("reason")];
  return html`<section class="panel ended"><h2>${t("ended_jobs")}</h2>
    <div class="row">${choice("state", STATES.map((each) => html`<option value=${each}>${t(`state_${each}`)}</option>`))}
      ${choice("model", [html`<option value="">${t("all")}</option>`, ...models.map(({ id }) => html`<option value=${id}>${id}</option>`)])}
      ${admin && html`<label>${t("tenant")} <input value=${asked.tenant} placeholder=${t("all")} onChange=${(e) => setAsked({ ...asked, tenant: e.target.value.trim() })} /></label>`}</div>
    ${error && html`<p class="bad" role="alert">${error}</p>`}
    <${Table} head=${head} rows=${(found?.data ?? []).map((each) => ({ key: each.id, cells: cells(each, admin) }))} empty=${t("nothing_ended")} numbers=${[admin ? 5 : 4]} />
    ${found?.has_more && html`<button type="button" onClick=${() => setMost(most + PAGE)}>${t("more")}</button>`}
  </section>`;
}

function cells(each, admin) {
  return [
    html`<${JobLink} id=${each.id} />`, each.model, t(`state_${each.state}`), ...(admin ? [each.tenant] : []), each.worker, number(each.tokens),
    new Date(each.ended * 1000).toLocaleTimeString(), each.error || each.finish,
  ];
}
