// A task's page: state as it changes, output as it is written, and what can be done.

import { api, ask, duration, localTimes, make, say, size, ui } from "./page.js";
import { Log } from "./log.js";

const task = document.getElementById("task");
const uuid = task.dataset.uuid;
const trouble = document.getElementById("trouble");
const linkState = document.getElementById("link-state");
const byId = (id) => document.getElementById(id);
const state = () => byId("live-state").dataset;

function complain(text) {
  trouble.textContent = text ?? "";
  trouble.hidden = !text;
}

/* The connection */

let lostTimer = 0;
const away = new Set();

/** Note that a source of news is cut off, or is back. */
function connection(source, lost) {
  if (!lost && !away.has(source)) return;
  if (lost) away.add(source);
  else away.delete(source);
  if (away.size) {
    lostTimer ||= setTimeout(() => {
      linkState.textContent = "Connection lost. Trying again…";
      linkState.hidden = false;
      say(linkState.textContent);
    }, 700);
    return;
  }
  clearTimeout(lostTimer);
  lostTimer = 0;
  if (!linkState.hidden) say("Connected again.");
  linkState.hidden = true;
}

/* What is shown: the page's own parts, asked for anew */

const plain = (html) => html.replaceAll(/_xsrf=[^"&]*/g, "");
const shown = new Map([...document.querySelectorAll("[data-live]")].map((one) => [one.id, plain(one.outerHTML)]));
const skew = new Date(task.dataset.at) - Date.now();

function swap(text) {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  for (const part of fresh.querySelectorAll("[data-live]")) {
    const old = byId(part.id);
    const html = plain(part.outerHTML);
    if (!old || shown.get(part.id) === html) continue;
    shown.set(part.id, html);
    const focus = old.contains(document.activeElement) ? document.activeElement : null;
    const path = focus?.dataset.path;
    const scroll = old.querySelector(".scroll")?.scrollLeft ?? 0;
    localTimes(part);
    old.replaceWith(part);
    if (scroll) part.querySelector(".scroll").scrollLeft = scroll;
    if (!focus) continue;
    const again = (focus.id && byId(focus.id)) || (path && part.querySelector(`[data-path="${CSS.escape(path)}"]`));
    (again || task.querySelector("h1")).focus({ preventScroll: true });
  }
  tick();
  document.dispatchEvent(new CustomEvent("refreshed"));
}

let asking = false;
let askAgain = "";
const isArray = !!byId("map");

/** Ask for the page's parts. An array's change often, and its files may be very many: these come when asked for. */
async function refresh(part = isArray ? "state" : "live") {
  if (asking) { askAgain = askAgain === "live" ? askAgain : part; return; }
  asking = true;
  try {
    const index = byId("index")?.value;
    const query = index ? `&index=${encodeURIComponent(index)}` : "";
    const response = await fetch(`${ui("task", uuid)}?part=${part}${query}`, { signal: AbortSignal.timeout(20000) });
    connection("page", false);
    if (response.redirected || response.status === 403) complain("You may not see this task any more: your session or the link has ended. Load the page again.");
    else if (response.status === 404) gone();
    else if (!response.ok) setTimeout(refresh, 1000 * Number(response.headers.get("Retry-After") ?? 3), part);
    else {
      const before = state().state;
      swap(await response.text());
      if (state().state !== before) changed();
      if (state().state !== before && part !== "live") askAgain = "live";
    }
  } catch {
    connection("page", true);
    setTimeout(refresh, 2000, part);
  } finally {
    asking = false;
    if (askAgain) {
      setTimeout(refresh, isArray ? 700 : 300, askAgain);
      askAgain = "";
    }
  }
}

const over = () => state().final === "1";

function changed() {
  say(state().said);
  face();
  dress();
  if (!over()) return;
  for (const log of Object.values(logs)) log.setLive(false);
  document.dispatchEvent(new CustomEvent("ended"));
  notice();
}

function gone() {
  stream?.close();
  complain("This task was deleted.");
  state().final = "1"; // nothing is asked for any more, and no clock goes on
  for (const one of document.querySelectorAll("[data-since]")) delete one.dataset.since;
  for (const log of Object.values(logs)) log.setLive(false);
  for (const button of task.querySelectorAll("#live-actions button")) button.disabled = true;
}

const SIGNS = {
  wait: ["#8a6100", '<circle cx="7" cy="12" r="1.8"/><circle cx="12" cy="12" r="1.8"/><circle cx="17" cy="12" r="1.8"/>'],
  run: ["#0b5a8f", '<path d="M9 6.5v11l9-5.5z"/>'],
  good: ["#14633c", '<path d="m6 12.5 4 4 8-9" fill="none" stroke="#fff" stroke-width="2.6"/>'],
  bad: ["#a1161f", '<path d="m7.5 7.5 9 9m0-9-9 9" fill="none" stroke="#fff" stroke-width="2.6"/>'],
  off: ["#4d5963", '<rect x="7.5" y="7.5" width="9" height="9"/>'],
};

/** The window's title and icon. */
function face() {
  document.title = `${state().said} · ${task.dataset.name} · drmaaticd`;
  const [colour, sign] = SIGNS[state().tone] ?? SIGNS.off;
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><rect width="24" height="24" rx="5" fill="${colour}"/><g fill="#fff">${sign}</g></svg>`;
  document.querySelector('link[rel="icon"]').href = `data:image/svg+xml,${encodeURIComponent(svg)}`;
}

function tick() {
  for (const one of document.querySelectorAll("[data-since]")) {
    one.textContent = duration(Math.max(0, (Date.now() + skew - new Date(one.dataset.since)) / 1000));
  }
}

/* News */

let stream = null;
let polling = 0;
let reopen = 1000;

/** Open the stream. A tab that is not looked at has none: browsers open few connections to one host. */
function listen() {
  stream?.close();
  if (over() || document.hidden) return;
  stream = new EventSource(api("task", uuid, "events"));
  stream.onopen = () => {
    connection("events", false);
    poll(0);
    reopen = 1000;
  };
  stream.onmessage = (event) => {
    const news = JSON.parse(event.data);
    if (news.update_date !== state().updated) refresh();
  };
  stream.addEventListener("gone", gone);
  stream.addEventListener("end", () => { stream.close(); refresh(); });
  stream.onerror = () => {
    if (over()) { stream.close(); return; }
    if (stream.readyState !== EventSource.CLOSED) { connection("events", true); return; }
    poll(3000); // there is no stream to be had: look now and then
    refresh();
    setTimeout(listen, reopen);
    reopen = Math.min(reopen * 2, 60000);
  };
}

function poll(milliseconds) {
  clearInterval(polling);
  polling = milliseconds && setInterval(() => { if (!over()) refresh(); }, milliseconds);
}

function seen() {
  if (over()) return;
  if (document.hidden) {
    stream?.close();
    connection("events", false);
    poll(5000);
    return;
  }
  poll(0);
  listen();
  refresh();
  logs[current].look();
}

/* Output */

const logs = {};
const place = byId("logs");
const sizes = {};
let current = "";

function fileOf(key) {
  const pattern = place.dataset[key === "stdout" ? "patternStdout" : "patternStderr"];
  return pattern ? pattern.replace("<index>", byId("index").value) : place.dataset[key];
}

function output() {
  const titles = { stdout: "Standard output", stderr: "Standard error" };
  const list = make("div", { role: "tablist", "aria-label": "Output" });
  const follow = make("button", { type: "button", "aria-pressed": "true" }, "Follow");
  const wrap = make("button", { type: "button", "aria-pressed": "true" }, "Wrap lines");
  const raw = make("a", { class: "button" }, "Open");
  const panels = [];
  const tabs = Object.keys(titles).map((key) => {
    const log = logs[key] = new Log(titles[key], (news) => {
      if ("lost" in news) connection(`log ${key}`, news.lost);
      if ("size" in news && news.size !== null) label(key, news.size);
      if (key === current && "following" in news) follow.setAttribute("aria-pressed", String(news.following));
    });
    log.live = !over();
    log.left = 1;
    log.set(api("task", uuid, "file", fileOf(key)));
    const panel = make("div", { role: "tabpanel", id: `panel-${key}`, "aria-labelledby": `tab-${key}` }, log.element);
    panels.push(panel);
    return make("button", { type: "button", role: "tab", id: `tab-${key}`, "aria-controls": `panel-${key}`, "data-key": key }, titles[key]);
  });
  const label = (key, bytes) => {
    const text = `${titles[key]}${bytes ? ` · ${size(bytes)}` : ""}`;
    const tab = byId(`tab-${key}`);
    sizes[key] = bytes;
    if (tab && tab.textContent !== text) tab.textContent = text;
  };
  const choose = (key, focus) => {
    current = key;
    for (const tab of tabs) {
      const chosen = tab.dataset.key === key;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
      byId(tab.getAttribute("aria-controls")).hidden = !chosen;
      logs[tab.dataset.key].show(chosen);
      if (chosen && focus) tab.focus();
    }
    raw.href = logs[key].address;
    follow.setAttribute("aria-pressed", String(logs[key].following));
  };
  list.append(...tabs);
  list.addEventListener("click", (event) => { const tab = event.target.closest("[role=tab]"); if (tab) choose(tab.dataset.key); });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -2, End: 3 }[event.key];
    if (!step) return;
    event.preventDefault();
    const at = step === -2 ? 0 : step === 3 ? tabs.length - 1 : (tabs.findIndex((tab) => tab.dataset.key === current) + step + tabs.length) % tabs.length;
    choose(tabs[at].dataset.key, true);
  });
  const setWrap = (on) => {
    place.classList.toggle("nowrap", !on);
    wrap.setAttribute("aria-pressed", String(on));
  };
  wrap.addEventListener("click", () => {
    const on = wrap.getAttribute("aria-pressed") !== "true";
    setWrap(on);
    localStorage.setItem("wrap", on ? "1" : "0");
  });
  follow.addEventListener("click", () => logs[current].follow(follow.getAttribute("aria-pressed") !== "true"));
  const quiet = Number(place.dataset.sizeStdout) === 0 || state().state === "failed";
  const first = quiet && Number(place.dataset.sizeStderr) > 0 ? "stderr" : "stdout";
  follow.hidden = over();
  document.addEventListener("refreshed", () => { follow.hidden = over(); });
  place.replaceChildren(make("div", { class: "logbar" }, list, make("div", { class: "row" }, follow, wrap, raw)), ...panels);
  for (const key of Object.keys(titles)) label(key, Number(place.dataset[key === "stdout" ? "sizeStdout" : "sizeStderr"]));
  setWrap(localStorage.getItem("wrap") !== "0");
  choose(first);
  const glanceAside = () => glance(current === "stdout" ? "stderr" : "stdout", label);
  setInterval(() => { if (!over()) glanceAside(); }, 5000);
  document.addEventListener("ended", glanceAside);
  return (index) => {
    byId("index").value = index;
    for (const key of Object.keys(titles)) {
      label(key, 0);
      logs[key].set(api("task", uuid, "file", fileOf(key)));
    }
    raw.href = logs[current].address;
    history.replaceState(null, "", `?index=${index}`);
  };
}

/** How much there is in the log that is not shown. */
async function glance(key, label) {
  if (document.hidden || away.size) return;
  const response = await fetch(logs[key].address, { method: "HEAD", cache: "no-store" }).catch(() => null);
  if (response?.ok) label(key, Number(response.headers.get("Content-Length")));
}

/* What can be done */

const QUESTIONS = {
  stop: ["Stop this task?", "Its job is ended; the files so far remain.", "Stop the task"],
  delete: ["Delete this task?", "Its job is ended if it still runs, and its files are removed. There is no way back.", "Delete the task"],
};

function sure(action) {
  const dialog = byId("sure");
  const [title, text, yes] = QUESTIONS[action];
  byId("sure-title").textContent = title;
  byId("sure-text").textContent = text;
  byId("sure-yes").textContent = yes;
  dialog.showModal();
  return new Promise((resolve) => { answer = resolve; });
}

let answer = null;
byId("sure-yes").addEventListener("click", () => answer?.(true));
byId("sure").addEventListener("close", () => { if (!byId("sure").open) answer?.(false); }); // it comes late, maybe after the next question

async function act(button) {
  const action = button.dataset.action;
  if (QUESTIONS[action] && !(await sure(action))) return;
  complain("");
  button.disabled = true;
  try {
    const path = action === "own" ? "get_ownership" : action;
    if (action === "delete") {
      await ask(api("task", uuid), { method: "DELETE" });
      stream?.close();
      location.assign(ui("tasks"));
      return;
    }
    const answer = await ask(api("task", uuid, path), { method: "PUT" });
    say(answer.detail);
  } catch (error) {
    complain(error.status ? error.message : "The service cannot be reached. Nothing was done; try again.");
  }
  button.disabled = false;
  refresh();
}

/* A notice when it ends */

let wanted = false;

async function wantNotice(button) {
  if (!("Notification" in window)) { complain("This browser shows no notices."); return; }
  if (!wanted && Notification.permission !== "granted" && (await Notification.requestPermission()) !== "granted") {
    complain("Your browser does not let this page show notices. Its settings for this site say so.");
    return;
  }
  wanted = !wanted;
  complain("");
  button.setAttribute("aria-pressed", String(wanted));
  say(wanted ? "You will be told when the task ends, while this page is open." : "You will not be told.");
}

/** What a fresh copy of the buttons does not know. */
function dress() {
  byId("do-notify")?.setAttribute("aria-pressed", String(wanted));
}

function notice() {
  if (!wanted) return;
  try {
    const shownNotice = new Notification(`${task.dataset.name}: ${state().said}`, { tag: uuid, body: `Task ${uuid.slice(0, 8)} has ended.` });
    shownNotice.onclick = () => { window.focus(); shownNotice.close(); };
  } catch { // browsers of telephones let only service workers do this
    complain("The task has ended. This browser shows no notices.");
  }
}

/* A link for others */

function share() {
  byId("share-made").hidden = byId("share-copy").hidden = byId("share-wrong").hidden = true;
  byId("share").showModal();
}

async function makeLink() {
  const wrong = byId("share-wrong");
  wrong.hidden = true;
  try {
    const made = await ask(`${api("task", uuid, "link")}?lifetime=${byId("share-for").value}`, { method: "POST" });
    const address = new URL(made.url);
    address.pathname = address.pathname.replace(/\/task\/([^/]+)$/, "/ui/task/$1");
    byId("share-link").value = address.href;
    byId("share-made").hidden = byId("share-copy").hidden = false;
    byId("share-link").select();
    say(`The link is made. It is valid for ${duration(made.expires_in)}.`);
  } catch (error) {
    wrong.textContent = error.errors?.length ? `The time ${error.errors[0].detail}.` : error.status ? error.message : "The service cannot be reached.";
    wrong.hidden = false;
  }
}

async function copyLink() {
  const field = byId("share-link");
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
    say("Copied.");
    byId("share-copy").textContent = "Copied";
  } catch {
    say("Press Control C to copy.");
  }
}

/* All together */

document.addEventListener("click", (event) => {
  const plainClick = event.button === 0 && !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);
  const button = event.target.closest("[data-action]");
  if (button) { event.preventDefault(); act(button); return; }
  if (event.target.closest("#do-notify")) wantNotice(event.target.closest("#do-notify"));
  if (event.target.closest("#do-share")) share();
  const file = event.target.closest("a.open");
  if (file && plainClick) {
    event.preventDefault();
    import("./files.js").then((module) => module.preview(file.getAttribute("href"), file.dataset.path)).catch(() => location.assign(file.href));
  }
});
byId("share-make")?.addEventListener("click", makeLink);
byId("share-copy")?.addEventListener("click", copyLink);
document.addEventListener("refreshed", dress);

const setIndex = output();
face();
tick();
setInterval(tick, 1000);
setInterval(() => { if (!document.hidden && !over() && !away.size) refresh("live"); }, isArray ? 30000 : 10000);
document.addEventListener("visibilitychange", seen);
window.addEventListener("online", () => { if (!over()) { listen(); refresh(); } });
if (byId("map")) import("./array.js").then((module) => module.start(byId("map"), setIndex));
window.addEventListener("pageshow", (event) => { if (event.persisted) seen(); });
if (document.hidden) seen();
else listen();
