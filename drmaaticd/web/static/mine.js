// The tasks that this browser has started: nobody else can list those of people who are not signed in.

import { root } from "./page.js";

const KEY = `drmaaticd.tasks${root}`;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** As many as the list's `ids` takes (API.md, Tasks). */
const MOST = 200;

/** Their UUIDs, newest first; none where the browser keeps nothing for this site. */
export function remembered() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(kept) ? kept.filter((one) => typeof one === "string" && UUID.test(one)).slice(0, MOST) : [];
  } catch {
    return []; // storage is switched off, or holds what we did not write
  }
}

function keep(uuids) {
  try {
    localStorage.setItem(KEY, JSON.stringify(uuids.slice(0, MOST)));
    return true;
  } catch {
    return false;
  }
}

/** To be called with each new task; false if the browser keeps nothing, so that the address must be kept. */
export function remember(uuid) {
  return UUID.test(uuid) && keep([uuid, ...remembered().filter((one) => one !== uuid)]);
}

/** To be called with a task that was deleted. */
export function forget(uuid) {
  return keep(remembered().filter((one) => one !== uuid));
}
