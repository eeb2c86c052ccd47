// API keys, for administrators.

import { html, useState } from "../vendor/preact-htm.js";
import { ask, get, keepKey, key } from "../lib/api.js";
import { Line, Table, number, usePolled } from "../lib/parts.js";
import { t } from "../lib/words.js";

export function Keys() {
  const { found, error, reload } = usePolled(() => get("v1/keys?limit=100"), 0);
  const [made, setMade] = useState("");
  const [changed, setChanged] = useState(null);
  const make = async (terms) => {
    const answer = await get("v1/keys", { json: terms });
    if (!key()) keepKey(answer.key, false); // from now on the gateway asks for one
    setMade(answer.key);
    reload();
  };
  const change = async ({ weight, limits }) => {
    await ask(`v1/keys/${changed.id}`, { json: { weight, limits }, method: "PATCH" });
    setChanged(null);
    reload();
  };
  const revoke = async (id) => confirm(t("sure_revoke")) && (await ask(`v1/keys/${id}`, { method: "DELETE" }).catch((refused) => alert(refused.message)), reload());
  if (error) return html`<div class="page"><div class="panel"><p>${t("admins_only")}</p><p class="soft">${error}</p></div></div>`;
  const rows = (found?.data ?? []).map((each) => ({
    key: each.id,
    cells: [html`<code>${each.id}</code>`, each.tenant, `…${each.ending}`, each.weight, each.ceiling, each.models.join(", ") || t("all"),
      each.limits.requests_per_minute || t("unlimited"), each.limits.tokens_per_day ? number(each.limits.tokens_per_day) : t("unlimited"),
      html`<span class="row"><button class="small" type="button" onClick=${() => setChanged(each)}>${t("change")}</button>
        <button class="small bad" type="button" onClick=${() => revoke(each.id)}>${t("revoke")}</button></span>`],
  }));
  const head = ["", t("tenant"), t("ending"), t("weight"), t("ceiling"), t("models"), t("per_minute"), t("tokens_day"), ""];
  return html`<div class="page">
    ${made && html`<div class="panel" role="status"><p>${t("shown_once")}</p><${Line} text=${made} /></div>`}
    <section class="panel"><h2>${t("keys")}</h2><${Table} head=${head} rows=${rows} empty=${t("no_keys")} /></section>
    ${changed
      ? html`<${Terms} key=${changed.id} title=${`${t("change")}: ${changed.tenant} …${changed.ending}`} label=${t("save")} given=${changed} onSend=${change} onLeave=${() => setChanged(null)} />`
      : html`<${Terms} key="new" title=${t("make_key")} label=${t("make_key")} onSend=${make} />`}
  </div>`;
}

/** The terms of a key: of a new one, or of one that is `given`, whose tenant stays. */
function Terms({ title, label, given, onSend, onLeave }) {
  const first = given ? { weight: given.weight, ...given.limits } : { tenant: key() ? "" : "admin", weight: 1, requests_per_minute: 0, tokens_per_day: 0 };
  const [terms, setTerms] = useState(first);
  const [refused, setRefused] = useState("");
  const set = (name) => (event) => setTerms({ ...terms, [name]: event.target.value });
  const send = (event) => {
    event.preventDefault();
    const limits = { requests_per_minute: Number(terms.requests_per_minute), tokens_per_day: Number(terms.tokens_per_day) };
    const body = { weight: Number(terms.weight), limits, ...(terms.tenant ? { tenant: terms.tenant } : {}) };
    onSend(body).then(() => setRefused(""), (error) => setRefused(error.message));
  };
  const field = (name, words, kind = "number") => html`<label>${words}<br /><input type=${kind} min="0" step="any" value=${terms[name]} onInput=${set(name)} /></label>`;
  return html`<form class="panel" onSubmit=${send}><h2>${title}</h2><div class="row">
    ${!given && field("tenant", t("tenant"), "text")} ${field("weight", t("weight"))} ${field("requests_per_minute", t("per_minute"))} ${field("tokens_per_day", t("tokens_day"))}
    <button class="main" type="submit">${label}</button>${onLeave && html`<button type="button" onClick=${onLeave}>${t("cancel")}</button>`}</div>
    ${refused && html`<p class="bad" role="alert">${refused}</p>`}</form>`;
}
