// Jobs that gave up their slots to others, and where they went on.

import { html, useState } from "../vendor/preact-htm.js";
import { listed } from "../lib/api.js";
import { Table, seconds, usePolled } from "../lib/parts.js";
import { t } from "../lib/words.js";
import { JobLink } from "./job.js";

const PAGE = 20;

/** Nothing is shown while no job gave way. @param {{admin: boolean}} props */
export function Preempted({ admin }) {
  const [most, setMost] = useState(PAGE);
  const { found } = usePolled(() => listed("v1/jobs/preempted", most), 4000, [most]);
  if (!found?.data.length) return null;
  const rows = found.data.map((each) => ({
    key: each.id,
    cells: [html`<${JobLink} id=${each.id} />`, each.model, ...(admin ? [each.tenant] : []), each.tier, each.state,
      html`${each.moves.map((move) => html`<div key=${move.at}>${told(move)}</div>`)}`],
  }));
  const head = [t("jobs"), t("model"), ...(admin ? [t("tenant")] : []), t("tier"), t("state"), t("went_on")];
  return html`<section class="panel preempted"><h2>${t("preempted")}</h2>
    <${Table} head=${head} rows=${rows} empty="" />
    ${found.has_more && html`<button type="button" onClick=${() => setMost(most + PAGE)}>${t("more")}</button>`}
  </section>`;
}

/** One time that it gave way, in words. */
function told({ worker, at, to, since, after_chunk }) {
  const when = new Date(at * 1000).toLocaleTimeString();
  if (!to) return t("not_gone_on", when, worker, after_chunk);
  return t("gone_on", when, worker, to, after_chunk, seconds(since - at));
}
