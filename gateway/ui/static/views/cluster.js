// The cluster as it is: models, workers and their slots, what waits and why, fairness, and Redis.

import { html, useEffect, useMemo, useRef, useState } from "../vendor/preact-htm.js";
import { ask, get, sleep, sse } from "../lib/api.js";
import { Table, bytes, number, seconds, usePolled } from "../lib/parts.js";
import { t } from "../lib/words.js";
import { Lines, MOST_GROUPS } from "../lib/plot.js";
import { Ended } from "./ended.js";
import { Preempted } from "./preempted.js";
import { JobLife, JobLink, showJob } from "./job.js";

const HISTORY = 120; // looks kept for the fairness plot

/** The cluster each second, over one stream that is opened again when it breaks. */
function useCluster() {
  const [state, setState] = useState(null);
  const [lost, setLost] = useState(false);
  useEffect(() => {
    const reader = new AbortController();
    (async () => {
      while (!reader.signal.aborted) {
        try {
          for await (const event of sse(await ask("v1/cluster/events", { signal: reader.signal }))) {
            if (event.kind !== "cluster") continue;
            setState(JSON.parse(event.data));
            setLost(false);
          }
        } catch {
          if (!reader.signal.aborted) setLost(true);
        }
        await sleep(1000, reader.signal);
      }
    })();
    return () => reader.abort();
  }, []);
  return { state, lost };
}

export function Cluster() {
  const { state, lost } = useCluster();
  const [job, setJob] = useState(jobOf());
  useEffect(() => {
    const moved = () => setJob(jobOf());
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  if (!state) return html`<div class="center"><p role="status">${lost ? t("away") : "…"}</p></div>`;
  const { admin } = state.viewer;
  return html`<div class="page">
    ${lost && html`<p class="warn" role="status">${t("away")}</p>`}
    ${job && html`<${JobLife} id=${job} viewer=${state.viewer} onClose=${() => showJob("")} />`}
    <${Figures} state=${state} />
    <${Models} state=${state} admin=${admin} />
    <${Workers} state=${state} />
    <${Queue} state=${state} />
    <${Fairness} state=${state} />
    <${Ended} models=${state.models} admin=${admin} />
    <${Preempted} admin=${admin} />
    <${Dead} admin=${admin} />
  </div>`;
}

const jobOf = () => (location.hash.startsWith("#/cluster/") ? decodeURIComponent(location.hash.slice("#/cluster/".length)) : "");

function Figures({ state }) {
  const { redis, models } = state;
  const sum = (name) => models.reduce((total, each) => total + each[name], 0);
  return html`<section class="figures" aria-label=${t("cluster")}>
    <div><span class="soft">${t("redis")}</span><b class=${redis.ok ? "good" : "bad"}>${redis.ok ? `${redis.round_trip_ms} ms` : "✕"}</b>
      <span class="small">${redis.ok ? redis.version || t("redis_ok") : `${t("redis_away")}: ${redis.error}`}</span></div>
    <div><span class="soft">${t("per_second")}</span><b>${number(state.tokens_per_second)}</b></div>
    <div><span class="soft">${t("running")}</span><b>${sum("running")} / ${sum("slots")}</b></div>
    <div><span class="soft">${t("queue_waiting")}</span><b>${sum("waiting")}</b></div>
    ${redis.memory_bytes !== null && html`<div><span class="soft">${t("memory")}</span><b>${bytes(redis.memory_bytes)}</b>
      <span class="small">${number(redis.commands_per_second)} ${t("commands")} · ${redis.append_only ? `AOF ${redis.fsync}` : html`<span class="bad">AOF ✕</span>`}</span></div>`}
  </section><br />`;
}

/** How exactly another worker goes on with an answer, for each kind of request where that differs. */
function Exactness({ levels }) {
  const kinds = Object.entries(levels);
  const told = new Set(Object.values(levels)).size === 1 ? kinds[0][1] : kinds.map(([kind, level]) => `${kind}: ${level}`).join(", ");
  return kinds.length > 0 && html`<span class="soft small" title=${t("exactness")}>${told}</span>`;
}

function Models({ state, admin }) {
  const act = (id, verb) => ask(`v1/models/${encodeURIComponent(id)}/${verb}`, { method: "POST" }).catch((error) => alert(error.message));
  const buttons = (each) => html`<span class="row"><button class="small" type="button" onClick=${() => act(each.id, "load")}>${t("load")}</button>
    <button class="small" type="button" onClick=${() => act(each.id, "unload")}>${t("unload")}</button></span>`;
  const rows = state.models.map((each) => ({
    key: each.id,
    cells: [
      each.id, html`${each.engine} <${Exactness} levels=${each.exactness} />`, each.loading || each.workers, `${each.running} / ${each.slots}`, each.waiting, number(each.tokens_per_second), seconds(each.wait),
      each.reserve ? `${each.policy}, ${each.reserve}` : each.policy, ...(admin ? [buttons(each)] : []),
    ],
  }));
  const head = [t("model"), t("engine"), t("workers"), t("slots"), t("queue_waiting"), t("per_second"), t("wait"), "", ...(admin ? [""] : [])];
  return html`<section class="panel"><h2>${t("models")}</h2><${Table} head=${head} rows=${rows} empty=${t("no_workers")} numbers=${[2, 3, 4, 5, 6]} /></section>`;
}

/** Slots as cells: each that is taken leads to its job, as far as the look knows it. The jobs' table says the same. */
function Cells({ load, slots, jobs }) {
  if (slots > 64) return html`${load} / ${slots}`;
  const cell = (at) => html`<span class=${at < load ? "cell on" : "cell"} title=${jobs[at]} onClick=${jobs[at] && (() => showJob(jobs[at]))}></span>`;
  return html`<span class="cells" role="img" aria-label=${`${load} / ${slots}`}>${Array.from({ length: Math.max(slots, load) }, (_, at) => cell(at))}</span>`;
}

/** Writes that were refused because their worker had lost the lease: of those known now, and of those that are gone. */
function Workers({ state }) {
  const fenced = Object.fromEntries(state.models.map((each) => [each.id, each.fenced]));
  const known = new Set(state.workers.map((each) => `${each.model} ${each.id}`));
  const gone = state.models.flatMap((model) => Object.entries(model.fenced).filter(([id]) => !known.has(`${model.id} ${id}`)).map(([id, writes]) => `${id} (${writes})`));
  const { admin, local_workers: local } = state.viewer;
  const runs = /** @type {Record<string, string[]>} */ ({});
  for (const { model, worker, id } of state.jobs) if (worker) (runs[`${model} ${worker}`] ??= []).push(id);
  const act = (id, verb) => (verb === "drain" || confirm(t("sure_kill"))) && ask(`v1/workers/${encodeURIComponent(id)}/${verb}`, { method: "POST" }).catch((error) => alert(error.message));
  const buttons = (each) => each.alive && html`<span class="row"><button class="small" type="button" onClick=${() => act(each.id, "drain")}>${t("drain")}</button>
    <button class="small bad" type="button" onClick=${() => act(each.id, "kill")}>${t("kill")}</button></span>`;
  const rows = state.workers.map((each) => ({
    key: `${each.model} ${each.id}`,
    cells: [
      html`<span title=${`redis-cli HGETALL 'ms:{${each.model}}:worker:${each.id}'`}>${each.id}</span>`, each.model, html`<span class=${each.alive ? "good" : "bad"}>${each.state}</span>`,
      html`<${Cells} load=${each.load} slots=${each.slots} jobs=${runs[`${each.model} ${each.id}`] ?? []} />`, number(each.tokens_per_second), number(each.speed), `${number(each.kv_use * 100)} %`, `${number(each.prefix_hit_rate * 100)} %`,
      seconds(each.lease_left), number(fenced[each.model]?.[each.id] ?? 0), ...(admin ? [`${each.host ?? ""} ${each.pid ?? ""}`] : []), ...(local ? [buttons(each)] : []),
    ],
  }));
  const head = [t("worker"), t("model"), t("state"), t("slots"), t("per_second"), t("speed"), t("kv"), t("hits"), t("lease"), t("fenced"), ...(admin ? [t("host")] : []), ...(local ? [""] : [])];
  return html`<section class="panel"><h2>${t("workers")}</h2><${Table} head=${head} rows=${rows} empty=${t("no_workers")} numbers=${[4, 5, 6, 7, 8, 9]} />
    ${gone.length > 0 && html`<p class="small fenced">${t("fenced_gone")}: ${gone.join(", ")}</p>`}</section>`;
}

/** Every job that waits or runs; pages of the API where there are more than a look brings along. */
function Queue({ state }) {
  const [filter, setFilter] = useState("");
  const [all, setAll] = useState(null);
  const total = state.models.reduce((sum, each) => sum + (each.live_jobs ?? 0), 0);
  const jobs = (all ?? state.jobs).filter((each) => !filter || each.state === filter);
  const { admin } = state.viewer;
  const table = useMemo(() => {
    const head = [t("jobs"), t("model"), t("state"), t("place"), t("why"), t("wait"), t("worker"), ...(admin ? [t("tenant")] : []), t("tier"), t("age"), t("deadline"), t("chunks")];
    return html`<${Table} head=${head} rows=${jobs.map((each) => ({ key: each.id, cells: jobCells(each, admin) }))} empty=${t("nothing_runs")} />`;
  }, [all ?? state.jobs, filter, admin]);
  return html`<section class="panel queue"><h2>${t("jobs")}</h2>
    <div class="row"><label>${t("filter")} <select value=${filter} onChange=${(e) => setFilter(e.target.value)}>
      <option value="">${t("all")}</option><option value="queued">${t("queue_waiting")}</option><option value="running">${t("running")}</option></select></label>
      <span class="soft small">${state.queues.map((each) => `${each.tenant} · ${each.tier}: ${each.waiting}`).join("   ")}</span></div>
    ${table}
    ${all ? html`<button type="button" onClick=${() => setAll(null)}>${t("close")}</button>` : total > state.jobs.length && html`<button type="button" onClick=${async () => setAll(await everyJob())}>${t("more")} (${total})</button>`}
  </section>`;
}

function jobCells(each, admin) {
  return [
    html`<${JobLink} id=${each.id} />`, each.model, each.state,
    each.position ?? "", each.why ? t(`why_${each.why}`) : "", each.wait === null ? "" : seconds(each.wait), each.worker, ...(admin ? [each.tenant] : []), each.tier, seconds(each.age), seconds(each.deadline_in), each.chunks,
  ];
}

async function everyJob() {
  const found = [];
  for (let after = ""; found.length < 5000; ) {
    const page = await get(`v1/jobs?limit=100${after ? `&after=${encodeURIComponent(after)}` : ""}`);
    found.push(...page.data);
    if (!page.has_more) break;
    after = page.last_id;
  }
  return found;
}

/** Virtual time of each tenant that waits, as lines: those that get their share rise together. And the same as a table. */
function Fairness({ state }) {
  const history = useRef(/** @type {Map<string, number>[]} */ ([]));
  useEffect(() => {
    const waits = state.queues.filter((each) => each.served !== null);
    if (waits.length || history.current.length) history.current = [...history.current, new Map(waits.map((each) => [`${each.tenant} · ${each.tier} · ${each.model}`, each.served]))].slice(-HISTORY);
  }, [state.at]);
  const looks = history.current;
  const names = [...new Set(looks.flatMap((each) => [...each.keys()]))].slice(0, MOST_GROUPS);
  if (!names.length) return html`<section class="panel fairness"><h2>${t("fairness")}</h2><p class="soft">${t("nothing_waits")}</p></section>`;
  const groups = names.map((name) => ({ name, values: looks.map((each) => each.get(name) ?? null) }));
  const rows = groups.map(({ name, values }) => {
    const known = values.filter((value) => value !== null);
    return { key: name, cells: [name, number(known.at(-1)), `+${number((known.at(-1) ?? 0) - (known[0] ?? 0))}`] };
  });
  return html`<section class="panel fairness"><h2>${t("fairness")}</h2>
    <${Lines} groups=${groups} length=${HISTORY} label=${t("fairness")} />
    <${Table} head=${[`${t("tenant")} · ${t("tier")} · ${t("model")}`, t("served"), t("since_opened")]} rows=${rows} empty="" numbers=${[1, 2]} />
  </section>`;
}

function Dead({ admin }) {
  const { found, reload } = usePolled(() => get("v1/jobs/dead?limit=20"), 5000);
  if (!found?.data.length) return null;
  const again = async (id) => (await ask(`v1/jobs/${id}/requeue`, { method: "POST" }).catch((error) => alert(error.message)), reload());
  const rows = found.data.map((each) => ({
    key: each.id,
    cells: [html`<code>${each.id}</code>`, each.model, each.tenant, new Date(each.died * 1000).toLocaleString(), each.reason,
      admin && each.can_requeue && html`<button class="small" type="button" onClick=${() => again(each.id)}>${t("requeue_dead")}</button>`],
  }));
  return html`<section class="panel"><h2>${t("dead")}</h2><${Table} head=${[t("jobs"), t("model"), t("tenant"), t("when"), t("reason"), ""]} rows=${rows} empty="" /></section>`;
}
