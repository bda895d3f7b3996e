// What every page shares. Each page's own script imports from here.

const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content ?? "";

export const root = meta("root");

/** The address of the session's data: api("task", uuid, "file"). */
export const api = (...parts) => `${root}/ui/api/${parts.map(encodeURIComponent).join("/")}`;

export const ui = (...parts) => `${root}/ui/${parts.map(encodeURIComponent).join("/")}`;

/** Whom this page was made for, percent-encoded; empty for who was not signed in. */
export const user = meta("user");

/** What requests that change something carry; they are refused if somebody else is signed in by now. */
export const guarded = () => ({ "X-Xsrftoken": meta("xsrf"), "X-Page-User": user });

/** An answer that is no success, with the problem document's words. */
export class Problem extends Error {
  constructor(status, document) {
    super(document.detail || document.title || `Status ${status}`);
    this.status = status;
    this.errors = document.errors ?? [];
  }
}

/** Tells that the session has ended, with a way back that leaves what was typed here alone. */
export function ended() {
  if (document.getElementById("ended")) return;
  const address = `${ui("sign-in")}?next=${encodeURIComponent(`${root}/ui/signed-in`)}`;
  document.getElementById("main").prepend(
    make(
      "p",
      { id: "ended", class: "notice bad", role: "alert" },
      user ? "Your session has ended. " : "This needs somebody who is signed in. ",
      "What you have typed here stays. ",
      make("a", { class: "button", href: address, target: "_blank", rel: "noopener" }, "Sign in in another tab"),
    ),
  );
}

/** Back in this tab, perhaps from signing in: takes the notice away if it is true no more. */
async function look() {
  const notice = document.getElementById("ended");
  if (!notice) return;
  const response = await fetch(api("me"), { headers: guarded() }).catch(() => null);
  if (!response?.ok) return;
  const known = await response.json();
  const name = known.user_name ? encodeURIComponent(`${known.user_source}:${known.user_name}`) : "";
  if (name !== user) return;
  notice.remove();
  say("You are signed in again.");
}

addEventListener("focus", look);

export async function problemOf(response) {
  if (response.status === 401) ended();
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
  if (seconds < 0.1) return "under 0.1 s";
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
