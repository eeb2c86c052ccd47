// The way to the gateway: where it is, with which key, and how its streams are read.

const KEY = "millstream.key";
const told = document.querySelector('meta[name="millstream-api"]')?.getAttribute("content");
const BASE = told ? new URL(told.endsWith("/") ? told : `${told}/`, document.baseURI) : new URL(document.baseURI);

// A gateway says something every 15 s (`keep_alive`). Where nothing comes for so long, the connection is dead, as after a sleep.
const QUIET = 60_000; // ms

export const events = new EventTarget(); // "unauthorized" when a key is wanted

/** The key the user gave, kept for this tab unless told to remember. */
export function key() {
  return sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY) ?? "";
}

/** @param {string} value @param {boolean} remember */
export function keepKey(value, remember) {
  sessionStorage.removeItem(KEY);
  localStorage.removeItem(KEY);
  if (value) (remember ? localStorage : sessionStorage).setItem(KEY, value);
}

/** An error that the gateway told, in words for the user. */
export class ApiError extends Error {
  /** @param {number} status @param {{message?: string, code?: string, param?: string}} error @param {number} retryAfter seconds */
  constructor(status, error, retryAfter = 0) {
    super(error.message || `HTTP ${status}`);
    this.status = status;
    this.code = error.code ?? "";
    this.param = error.param ?? "";
    this.retryAfter = retryAfter;
  }
}

/** @param {string} path below the gateway's root @param {RequestInit & {json?: unknown}} options */
export async function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  if (key()) headers.set("authorization", `Bearer ${key()}`);
  const { json, ...rest } = options;
  if (json !== undefined) {
    headers.set("content-type", "application/json");
    rest.body = JSON.stringify(json);
    rest.method ??= "POST";
  }
  const response = await fetch(new URL(path, BASE), { ...rest, headers, credentials: "omit", cache: "no-store" });
  if (response.ok) return response;
  if (response.status === 401) events.dispatchEvent(new Event("unauthorized"));
  throw await failure(response);
}

async function failure(response) {
  const retry = Number(response.headers.get("retry-after")) || 0;
  try {
    return new ApiError(response.status, (await response.json()).error ?? {}, retry);
  } catch {
    return new ApiError(response.status, {}, retry);
  }
}

/** The answer as JSON. @param {string} path @param {RequestInit & {json?: unknown}} options */
export async function get(path, options = {}) {
  return (await ask(path, options)).json();
}

/** @template T @param {Promise<T>} reading @returns {Promise<T>} */
function inTime(reading) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new TypeError("nothing came for a long time")), QUIET);
    reading.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

/** Every line of a stream, until it ends. Throws when the connection breaks or is silent. @param {Response} response */
async function* lines(response) {
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await inTime(reader.read());
      if (done) return;
      const parts = (rest + value).split("\n");
      rest = parts.pop() ?? "";
      for (const part of parts) yield part.endsWith("\r") ? part.slice(0, -1) : part;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/**
 * The events of a stream; a comment is an event of the kind "comment".
 * @param {Response} response
 * @returns {AsyncGenerator<{kind: string, id: string, data: string}>}
 */
export async function* sse(response) {
  let event = { kind: "message", id: "", data: "" };
  for await (const line of lines(response)) {
    if (line === "") {
      if (event.data) yield event;
      event = { kind: "message", id: "", data: "" };
    } else if (line.startsWith(":")) {
      yield { kind: "comment", id: "", data: line.slice(1).trim() };
    } else {
      const colon = line.indexOf(":");
      const name = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (name === "data") event.data += (event.data ? "\n" : "") + value;
      if (name === "id") event.id = value;
      if (name === "event") event.kind = value;
    }
  }
}

/** Saves what the gateway answers as a file: a link could not carry the key. @param {string} path @param {string} name */
export async function download(path, name) {
  save(await (await ask(path)).blob(), name);
}

/** @param {Blob} blob @param {string} name */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** @param {number} ms @param {AbortSignal} [signal] */
export function sleep(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve(undefined)), { once: true });
  });
}

/** Reads as many of a list as are wanted, page by page.
 * @param {string} path @param {number} most @param {Record<string, string>} [asked] what else is asked; empty values are left out
 * @returns {Promise<{data: any[], has_more: boolean}>} */
export async function listed(path, most, asked = {}) {
  const data = [];
  for (let after = ""; ; ) {
    const wanted = { ...asked, after, limit: String(Math.min(100, most - data.length)) };
    const page = await get(`${path}?${new URLSearchParams(Object.entries(wanted).filter(([, value]) => value))}`);
    data.push(...page.data);
    if (!page.has_more || !page.data.length || data.length >= most) return { data, has_more: page.has_more };
    after = page.data.at(-1).id;
  }
}
