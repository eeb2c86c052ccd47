// Jobs that gave up their slots to others, and where they went on.

import { html, useState } from "../vendor/preact-htm.js";
import { get } from "../lib/api.js";
import { Table, seconds, usePolled } from "../lib/parts.js";
import { t } from "../lib/words.js";
import { JobLink } from "./job.js";

const PAGE = 20;

/** Nothing is shown while no job gave way. @param {{admin: boolean}} props */
export function Preempted({ admin }) {
  const [most, setMost] = useState(PAGE);
  const { found } = usePolled(() => newest(most), 4000, [most]);
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

/** As many as are wanted, page by page. */
async function newest(most) {
  const data = [];
  for (let after = ""; ; ) {
    const page = await get(`v1/jobs/preempted?limit=${PAGE}${after && `&after=${encodeURIComponent(after)}`}`);
    data.push(...page.data);
    if (!page.has_more || data.length >= most) return { data, has_more: page.has_more };
    after = page.last_id;
  }
}

/** One time that it gave way, in words. */
function told({ worker, at, to, since, after_chunk }) {
  const when = new Date(at * 1000).toLocaleTimeString();
  if (!to) return t("not_gone_on", when, worker, after_chunk);
  return t("gone_on", when, worker, to, after_chunk, seconds(since - at));
}
