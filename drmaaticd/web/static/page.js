// What every page shares. Each page's own script imports from here.

const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content ?? "";

export const root = meta("root");

/** The address of the session's data: api("task", uuid, "file"). */
export const api = (...parts) => `${root}/ui/api/${parts.map(encodeURIComponent).join("/")}`;

export const ui = (...parts) => `${root}/ui/${parts.map(encodeURIComponent).join("/")}`;

/** What requests that change something carry. */
export const guarded = () => ({ "X-Xsrftoken": meta("xsrf") });

/** An answer that is no success, with the problem document's words. */
export class Problem extends Error {
  constructor(status, document) {
    super(document.detail || document.title || `Status ${status}`);
    this.status = status;
    this.errors = document.errors ?? [];
  }
}

export async function problemOf(response) {
  let document = {};
  try {
    document = await response.json();
  } catch {
    document = { title: `The service answered ${response.status}.` };
  }
  return new Problem(response.status, document);
}

/** The JSON of an answer (null for 204); throws a Problem, or a TypeError without a connection. */
export async function ask(address, options = {}) {
  const headers = { Accept: "application/json", ...options.headers };
  if (options.method && options.method !== "GET") Object.assign(headers, guarded());
  const response = await fetch(address, { ...options, headers });
  if (!response.ok) throw await problemOf(response);
  return response.status === 204 ? null : response.json();
}

/** Says something to screen readers; `loud` interrupts. */
export function say(text) {
  const live = document.getElementById("live");
  live.textContent = "";
  requestAnimationFrame(() => { live.textContent = text; });
}

/** An element: make("p", {class: "quiet"}, "text", child…). Text is never HTML. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

export function size(bytes) {
  if (bytes < 1024) return `${bytes} byte${bytes === 1 ? "" : "s"}`;
  let value = bytes;
  let unit = "";
  for (unit of ["KiB", "MiB", "GiB", "TiB"]) {
    value /= 1024;
    if (value < 1024) break;
  }
  return `${value < 1000 ? Number(value.toPrecision(3)) : Math.round(value)} ${unit}`;
}

export function duration(seconds) {
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  let left = Math.round(seconds);
  const parts = [];
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
    const count = Math.floor(left / length);
    left -= count * length;
    if (count) parts.push(`${count} ${unit}`);
  }
  return parts.slice(0, 2).join(" ");
}

/** Turns the server's UTC texts into the reader's own time: <time datetime="…">. */
export function localTimes(within = document) {
  for (const element of within.querySelectorAll("time[datetime]")) {
    const moment = new Date(element.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    element.textContent = moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
    element.title = element.dateTime;
  }
}

document.documentElement.classList.add("js");
localTimes();
