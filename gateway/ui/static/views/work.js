// Batches and the files they read and write.

import { html, useRef, useState } from "../vendor/preact-htm.js";
import { ask, download, get, listed } from "../lib/api.js";
import { Table, bytes, seconds, usePolled } from "../lib/parts.js";
import { t } from "../lib/words.js";

const ENDPOINTS = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"];
const OVER = ["completed", "failed", "expired", "cancelled"];
const MOST_FAULTS = 3; // shown of one batch
const PAGE = 50;
const refused = (error) => alert(error.message);

export function Work() {
  const [most, setMost] = useState({ batches: PAGE, files: PAGE });
  const batches = usePolled(() => listed("v1/batches", most.batches), 2000, [most.batches]);
  const files = usePolled(() => listed("v1/files", most.files), 5000, [most.files]);
  const more = (name, { found }) => found?.has_more && html`<button type="button" onClick=${() => setMost({ ...most, [name]: most[name] + PAGE })}>${t("more")}</button>`;
  const reload = () => (batches.reload(), files.reload());
  const cancel = (id) => ask(`v1/batches/${id}/cancel`, { method: "POST" }).then(reload, refused);
  const drop = (id) => ask(`v1/files/${id}`, { method: "DELETE" }).then(reload, refused);
  return html`<div class="page">
    ${(batches.error || files.error) && html`<p class="bad" role="alert">${batches.error || files.error}</p>`}
    <${NewBatch} onDone=${reload} />
    <section class="panel"><h2>${t("batches")}</h2><${Table} head=${["", t("endpoint"), t("state"), t("progress"), "", ""]} empty=${t("no_batches")}
      rows=${(batches.found?.data ?? []).map((each) => ({ key: each.id, cells: batchCells(each, cancel) }))} />${more("batches", batches)}</section>
    <section class="panel"><h2>${t("files")}</h2><${Table} head=${[t("name"), t("purpose"), t("size"), ""]} empty=${t("no_files")}
      rows=${(files.found?.data ?? []).map((each) => ({ key: each.id, cells: fileCells(each, drop) }))} />${more("files", files)}</section>
  </div>`;
}

function batchCells(each, cancel) {
  const counts = each.request_counts ?? { total: 0, completed: 0, failed: 0 };
  const done = counts.completed + counts.failed;
  const get_ = (id, name) => id && html`<button class="small" type="button" onClick=${() => download(`v1/files/${id}/content`, `${each.id}.${name}.jsonl`)}>${t(name)}</button>`;
  return [
    html`<code>${each.id}</code>`, each.endpoint, html`${each.status}<${Faults} errors=${each.errors?.data ?? []} />`,
    html`<div class="bar-outer" role="progressbar" aria-valuemin="0" aria-valuemax=${counts.total} aria-valuenow=${done}><div class="bar-inner" style=${{ width: `${counts.total ? (100 * done) / counts.total : 0}%` }}></div></div>
      <span class="small">${done} / ${counts.total}${counts.failed ? html` · <span class="bad">${counts.failed}</span>` : ""} ${eta(each, done, counts.total)}</span>`,
    html`<span class="row">${get_(each.output_file_id, "output")}${get_(each.error_file_id, "errors")}</span>`,
    !OVER.includes(each.status) && html`<button class="small bad" type="button" onClick=${() => cancel(each.id)}>${t("cancel")}</button>`,
  ];
}

/** Why a file is no batch: the first lines that are wrong, and how many more there are. */
function Faults({ errors }) {
  const told = ({ line, message }) => html`<div class="small bad">${line ? `${t("line", line)}: ` : ""}${message}</div>`;
  return html`${errors.slice(0, MOST_FAULTS).map(told)}${errors.length > MOST_FAULTS && html`<div class="small bad">+ ${errors.length - MOST_FAULTS}</div>`}`;
}

/** When it will be done if it goes on as until now. */
function eta(each, done, total) {
  if (each.status !== "in_progress" || !done || !each.in_progress_at) return "";
  const took = Date.now() / 1000 - each.in_progress_at;
  return t("eta", seconds((took / done) * (total - done)));
}

function fileCells(each, drop) {
  return [each.filename, each.purpose, bytes(each.bytes), html`<span class="row">
    <button class="small" type="button" onClick=${() => download(`v1/files/${each.id}/content`, each.filename)}>${t("download")}</button>
    <button class="small bad" type="button" onClick=${() => drop(each.id)}>${t("remove")}</button></span>`];
}

function NewBatch({ onDone }) {
  const file = useRef(null);
  const [endpoint, setEndpoint] = useState(ENDPOINTS[0]);
  const [error, setError] = useState("");
  const start = async (event) => {
    event.preventDefault();
    try {
      const form = new FormData();
      form.set("purpose", "batch");
      form.set("file", file.current.files[0]);
      const uploaded = await get("v1/files", { method: "POST", body: form });
      await get("v1/batches", { json: { input_file_id: uploaded.id, endpoint, completion_window: "24h" } });
      setError("");
      onDone();
    } catch (failed) {
      setError(failed.message);
    }
  };
  return html`<form class="panel" onSubmit=${start}><h2>${t("start_batch")}</h2><div class="row">
    <input type="file" accept=".jsonl,application/jsonl" aria-label=${t("upload")} ref=${file} required />
    <label>${t("endpoint")} <select value=${endpoint} onChange=${(e) => setEndpoint(e.target.value)}>${ENDPOINTS.map((each) => html`<option value=${each}>${each}</option>`)}</select></label>
    <button class="main" type="submit">${t("start_batch")}</button></div>${error && html`<p class="bad" role="alert">${error}</p>`}</form>`;
}
