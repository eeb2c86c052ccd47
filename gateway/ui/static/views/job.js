// One job's life as a strip: waited, written by one worker, taken back, written by the next.

import { html } from "../vendor/preact-htm.js";
import { ask, get } from "../lib/api.js";
import { Line, seconds, usePolled } from "../lib/parts.js";
import { t } from "../lib/words.js";

export const showJob = (id) => (location.hash = id ? `#/cluster/${encodeURIComponent(id)}` : "#/cluster");

/** A job's id, shortened, which leads to its life. */
export function JobLink({ id }) {
  const open = (event) => (event.preventDefault(), showJob(id));
  return html`<a href=${`#/cluster/${encodeURIComponent(id)}`} onClick=${open}><code>${id.length > 20 ? `${id.slice(0, 12)}…${id.slice(-6)}` : id}</code></a>`;
}

export function JobLife({ id, viewer, onClose }) {
  const { found: job, error, reload } = usePolled(() => get(`v1/jobs/${encodeURIComponent(id)}`), 1000, [id]);
  const act = async (verb) => (await ask(`v1/jobs/${encodeURIComponent(id)}/${verb}`, { method: "POST" }).catch((refused) => alert(refused.message)), reload());
  const live = job && ["queued", "running"].includes(job.state);
  return html`<section class="panel life" aria-label=${t("life")}>
    <div class="row"><h2 class="grow">${t("life")} <code>${id}</code></h2><button type="button" onClick=${onClose}>${t("close")}</button></div>
    ${error && html`<p class="bad" role="alert">${error}</p>`}
    ${job && html`
      <p>${job.model} · ${job.tenant} · ${job.tier} · <b>${job.state}</b>${job.position ? ` · ${t("place")} ${job.position}` : ""}${job.why ? ` · ${t(`why_${job.why}`)}` : ""}
        ${job.wait !== null ? ` · ${t("about", seconds(job.wait))}` : ""} · ${job.chunks} ${t("chunks")}${job.error ? html` · <span class="bad">${job.error}</span>` : ""}</p>
      <${Strip} job=${job} />
      ${live && html`<div class="row">${viewer.admin && job.state === "running" && html`<button type="button" onClick=${() => act("requeue")}>${t("requeue")}</button>`}
        <button class="bad" type="button" onClick=${() => act("cancel")}>${t("cancel_job")}</button></div>`}
      <details><summary>${t("keys_in_redis")}</summary>${job.redis_cli.map((line) => html`<${Line} key=${line} text=${line} />`)}</details>`}
  </section>`;
}

/** The parts of a job's life, each as wide as it was long. */
export function Strip({ job }) {
  const now = job.settled ?? job.at;
  const parts = [{ kind: "wait", label: t("waited"), from: job.submitted, to: job.leases[0]?.since ?? now }];
  job.leases.forEach((lease, at) => {
    const next = job.leases[at + 1];
    const until = lease.until ?? next?.since ?? now;
    parts.push({ kind: at % 2 ? "lease b" : "lease", label: lease.worker, from: lease.since, to: until, title: lease.lease });
    if (next && next.since > until) parts.push({ kind: "gap", label: "", from: until, to: next.since });
  });
  const last = job.leases.at(-1);
  if (last?.until && job.state === "queued") parts.push({ kind: "wait", label: t("queue_waiting"), from: last.until, to: now });
  const shown = (part) => html`<span class=${part.kind} style=${{ flexGrow: Math.max(part.to - part.from, 0.001) }} title=${`${part.title ?? part.label} ${seconds(part.to - part.from)}`}>
    ${part.label} ${seconds(part.to - part.from)}</span>`;
  return html`<div class="strip" role="img" aria-label=${parts.map((part) => `${part.label || t("gap", "")} ${seconds(part.to - part.from)}`).join(" → ")}>${parts.map(shown)}</div>`;
}
