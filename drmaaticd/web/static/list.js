// The list of tasks while it changes: one stream for the page's live tasks, or, on the first page of one's
// own, for all of one's tasks, new ones too; what they have become is asked of the server as the same
// page once more, so that all wording is the server's.

import { api, ended, localTimes, say, user } from "./page.js";

/** Milliseconds after which it is tried again when the stream was refused. */
const PAUSE = 5000;

/** Milliseconds in which changes are gathered before the page is asked for once; of tasks not on it, longer. */
const GATHER = 200;
const GATHER_OTHERS = 1000;

const place = document.getElementById("list");
const anonymous = document.getElementById("unknown") !== null;

/** What this browser has started, of which nobody else keeps a list. */
const { remembered } = anonymous ? await import("./mine.js") : {};

/** By how many minutes this reader's day begins before UTC's, or the day after it. */
function minutes(field, after) {
  const [year, month, day] = document.getElementById(field).value.split("-").map(Number);
  return year ? -new Date(year, month - 1, day + after).getTimezoneOffset() : 0;
}

document.querySelector(".filters").addEventListener("submit", () => {
  document.getElementById("tz").value = `${minutes("from", 0)},${minutes("to", 1)}`;
});

/** This page's address; for who is not signed in, with the tasks that this browser has started. */
function address() {
  const url = new URL(location.href);
  if (anonymous) url.searchParams.set("ids", remembered().join(","));
  return url;
}

const rows = (within) => [...within.querySelectorAll("tr[data-uuid]")];

/** Takes over what is new in the list, and leaves the rest, and the focus, where they are. */
function take(fresh) {
  const known = new Map(rows(place).map((row) => [row.dataset.uuid, row]));
  const said = [];
  const focused = document.activeElement;
  const within = place.contains(focused) && focused.getAttribute("href");
  for (const row of rows(fresh)) {
    const old = known.get(row.dataset.uuid);
    if (old?.dataset.mark === row.dataset.mark) {
      row.replaceWith(old);
    } else if (old) {
      if (old.dataset.said !== row.dataset.said) {
        said.push(`${row.querySelector(".what a").textContent}: ${row.dataset.said}`);
      }
      row.classList.add("changed");
      setTimeout(() => row.classList.remove("changed"), 1500);
    }
  }
  place.replaceChildren(...fresh.childNodes);
  place.dataset.follow = fresh.dataset.follow;
  localTimes(place);
  if (within) [...place.querySelectorAll("a")].find((link) => link.getAttribute("href") === within)?.focus();
  if (said.length) say(said.slice(0, 3).join(". ") + (said.length > 3 ? `. And ${said.length - 3} more.` : ""));
}

let asking = false;
let again = false;

async function refresh() {
  if (asking) {
    again = true;
    return;
  }
  asking = true;
  try {
    const response = await fetch(address(), { headers: { Accept: "text/html" } });
    if (response.ok && !response.redirected) {
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      if (page.querySelector("meta[name=user]").content === user) take(document.adoptNode(page.getElementById("list")));
      else ended();
    } else if (response.redirected || response.status === 404) {
      location.reload(); // the session has ended, or the list is shorter than this page by now
    }
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // without a connection the stream will be back later
  } finally {
    asking = false;
  }
  if (again) {
    again = false;
    await refresh();
  } else if (!document.getElementById("ended")) {
    follow();
  }
}

let stream = null;
let followed = "";
let timer = 0;

const soon = (after = GATHER) => {
  clearTimeout(timer);
  timer = setTimeout(refresh, after);
};

/** Of tasks that are not on this page: the states that were heard of. */
const others = new Map();

/** Whether a task that is not on this page changes it: by being new, or in the counts of states. */
function concerns(task) {
  const before = others.get(task.uuid);
  others.set(task.uuid, task.state);
  if (before) return before !== task.state;
  const newest = place.querySelector("tr[data-uuid] time");
  return !newest || Date.parse(task.creation_date) >= Date.parse(newest.dateTime);
}

/** What is to be followed: the tasks on this page that have not ended, or all; empty for nothing. */
function wanted() {
  // A stream of all has no end, and a browser opens only six connections to a host, whatever the tabs.
  if (place.dataset.follow === "all") return document.hidden ? "" : "all";
  return rows(place).filter((row) => "live" in row.dataset).map((row) => row.dataset.uuid).sort().join(",");
}

function follow() {
  const now = wanted();
  if (now === followed && stream?.readyState !== EventSource.CLOSED) return;
  stream?.close();
  stream = null;
  followed = now;
  if (!now) return;
  const opened = new EventSource(api("task", "events") + (now === "all" ? "" : `?ids=${now}`));
  stream = opened;
  opened.addEventListener("message", (event) => {
    const task = JSON.parse(event.data);
    const row = rows(place).find((one) => one.dataset.uuid === task.uuid);
    if (!row) {
      if (concerns(task)) soon(GATHER_OTHERS);
    } else if (row.dataset.mark !== `${task.state} ${task.update_date}`) soon();
  });
  opened.addEventListener("gone", () => soon());
  opened.addEventListener("error", () => {
    if (opened.readyState === EventSource.CLOSED) soon(PAUSE);
  });
  opened.addEventListener("end", () => {
    opened.close();
    soon();
  });
}

addEventListener("pagehide", () => stream?.close());
document.addEventListener("visibilitychange", () => {
  if (place.dataset.follow !== "all") return;
  if (document.hidden) follow();
  else refresh(); // and follow, what has changed meanwhile being on the page
});
addEventListener("pageshow", (event) => {
  if (event.persisted) refresh();
});

if (anonymous && remembered().length) refresh();
else follow();
