// An array's members as a map: drawn as far as it is in view, so that any number of them is quick.

import { ask, make, say } from "./page.js";

/* State → name, colour (a token of the sheet), and shape: colour alone says nothing. */
const LOOKS = {
  received: ["Received", "wait", "hollow"], created: ["Submitted", "wait", "hollow"],
  undetermined: ["Unknown to the cluster", "wait", "query"], queued_active: ["Queued", "wait", "hollow"],
  system_on_hold: ["Waiting", "wait", "bars"], user_on_hold: ["Held", "wait", "bars"], user_system_on_hold: ["Held", "wait", "bars"],
  running: ["Running", "run", "play"], system_suspended: ["Suspended by the cluster", "wait", "bars"], user_suspended: ["Suspended", "wait", "bars"],
  stopped: ["Stopped", "off", "square"], done: ["Done", "good", "full"], failed: ["Failed", "bad", "cross"], rejected: ["Refused", "bad", "cross"],
};
const HEIGHT = 320;

/** Cell size in CSS pixels for so many members. */
const cellFor = (count) => (count <= 60 ? 36 : count <= 400 ? 24 : count <= 3000 ? 16 : 10);

/** Start the map in `place`; `open(index)` shows a member's output. */
export async function start(place, open) {
  const canvas = make("canvas", { "aria-hidden": "true" });
  const inner = make("div", { class: "inner" });
  const option = make("div", { role: "option", id: "member", "aria-selected": "true", class: "unseen" });
  const box = make("div", { class: "box scroll", role: "listbox", tabindex: "0", "aria-label": "Members by state; arrow keys move, Enter shows the output", "aria-activedescendant": "member" }, canvas, inner, option);
  const told = make("p", { class: "quiet", "aria-hidden": "true" });
  place.append(box, told);

  const map = { states: [], begin: 1, step: 1, at: 0, columns: 1, cell: 24 };
  const colours = {};

  function readColours() {
    const style = getComputedStyle(document.documentElement);
    for (const tone of ["wait", "run", "good", "bad", "off"]) colours[tone] = style.getPropertyValue(`--${tone}`).trim();
    for (const one of ["ground", "ink", "raised"]) colours[one] = style.getPropertyValue(`--${one}`).trim();
  }

  function measure() {
    map.cell = cellFor(map.states.length);
    map.columns = Math.max(1, Math.floor(box.clientWidth / map.cell));
    const rows = Math.ceil(map.states.length / map.columns);
    const tall = Math.min(HEIGHT, rows * map.cell);
    box.style.height = `${tall + 8}px`;
    inner.style.height = `${rows * map.cell - tall}px`;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = map.columns * map.cell * ratio;
    canvas.height = tall * ratio;
    canvas.style.width = `${map.columns * map.cell}px`;
    canvas.style.height = `${tall}px`;
    inner.hidden = rows * map.cell <= tall;
  }

  function draw() {
    const context = canvas.getContext("2d");
    const ratio = window.devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    const top = box.scrollTop;
    const first = Math.floor(top / map.cell) * map.columns;
    const last = Math.min(map.states.length, (Math.ceil((top + HEIGHT) / map.cell) + 1) * map.columns);
    for (let at = first; at < last; at += 1) {
      const x = (at % map.columns) * map.cell;
      const y = Math.floor(at / map.columns) * map.cell - top;
      paint(context, x, y, LOOKS[map.states[at]] ?? LOOKS.undetermined);
      if (at === map.at) {
        context.strokeStyle = colours.ink;
        context.lineWidth = 2;
        context.strokeRect(x + 0.5, y + 0.5, map.cell - 1, map.cell - 1);
      }
    }
  }

  function paint(context, x, y, [, tone, shape]) {
    const edge = map.cell > 12 ? 2 : 1;
    const side = map.cell - 2 * edge;
    context.fillStyle = context.strokeStyle = colours[tone];
    context.lineWidth = side > 16 ? 2 : 1;
    const solid = shape === "full" || shape === "cross" || shape === "play" || shape === "square";
    if (solid) context.fillRect(x + edge, y + edge, side, side);
    else context.strokeRect(x + edge + 0.5, y + edge + 0.5, side - 1, side - 1);
    context.fillStyle = context.strokeStyle = solid ? colours.ground : colours[tone];
    const [left, right, high, low] = [x + edge + side * 0.25, x + edge + side * 0.75, y + edge + side * 0.25, y + edge + side * 0.75];
    context.beginPath();
    if (shape === "cross") { context.moveTo(left, high); context.lineTo(right, low); context.moveTo(right, high); context.lineTo(left, low); context.stroke(); }
    if (shape === "play") { context.moveTo(left, high); context.lineTo(right, (high + low) / 2); context.lineTo(left, low); context.fill(); }
    if (shape === "square") context.fillRect(left, high, right - left, low - high);
    if (shape === "bars") { context.fillRect(left, high, side * 0.18, low - high); context.fillRect(right - side * 0.18, high, side * 0.18, low - high); }
    if (shape === "query") { context.moveTo(left, (high + low) / 2); context.lineTo(right, (high + low) / 2); context.stroke(); }
  }

  const index = (at) => map.begin + at * map.step;
  const name = (at) => `Member ${index(at)}: ${(LOOKS[map.states[at]] ?? LOOKS.undetermined)[0]}`;

  function move(at) {
    map.at = Math.max(0, Math.min(map.states.length - 1, at));
    const y = Math.floor(map.at / map.columns) * map.cell;
    if (y < box.scrollTop) box.scrollTop = y;
    else if (y + map.cell > box.scrollTop + HEIGHT) box.scrollTop = y + map.cell - HEIGHT;
    tell();
    draw();
  }

  function tell() {
    option.textContent = told.textContent = name(map.at);
    option.setAttribute("aria-posinset", map.at + 1);
    option.setAttribute("aria-setsize", map.states.length);
    const here = document.getElementById("member-state");
    const shownAt = (Number(document.getElementById("index").value) - map.begin) / map.step;
    here.textContent = map.states[shownAt] ? (LOOKS[map.states[shownAt]] ?? LOOKS.undetermined)[0] : "";
  }

  function show(at) {
    move(at);
    open(index(map.at));
    tell();
    say(`The output of member ${index(map.at)}.`);
  }

  function under(event) {
    const bounds = canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - bounds.left) / map.cell);
    const row = Math.floor((event.clientY - bounds.top + box.scrollTop) / map.cell);
    const at = row * map.columns + column;
    return column >= 0 && column < map.columns && at >= 0 && at < map.states.length ? at : -1;
  }

  box.addEventListener("scroll", draw, { passive: true });
  box.addEventListener("click", (event) => { const at = under(event); if (at >= 0) show(at); });
  box.addEventListener("pointermove", (event) => {
    const at = under(event);
    box.title = at >= 0 ? name(at) : "";
  });
  box.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor(HEIGHT / map.cell)) * map.columns;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: map.columns, ArrowUp: -map.columns, PageDown: page, PageUp: -page, Home: -map.at, End: map.states.length };
    if (event.key in steps) move(map.at + steps[event.key]);
    else if (event.key === "Enter" || event.key === " ") show(map.at);
    else return;
    event.preventDefault();
  });

  /** The next member in this state after the present one, from the start again. */
  function jump(wanted) {
    const from = map.at + 1;
    let found = map.states.indexOf(wanted, from);
    if (found < 0) found = map.states.indexOf(wanted);
    if (found >= 0) show(found);
  }

  /** The counts per state become buttons that lead to such a member. */
  function legend() {
    for (const one of document.querySelectorAll("#legend > li:not(:has(button))")) {
      const wanted = one.dataset.state;
      const button = make("button", { type: "button", id: `next-${wanted}`, title: "To the next one" }, ...one.childNodes);
      button.addEventListener("click", () => jump(wanted));
      one.replaceChildren(button);
    }
  }

  let asking = false;
  let again = false;
  async function load() {
    if (asking) { again = true; return; }
    asking = true;
    try {
      const found = await ask(place.dataset.members);
      map.states = found.runs.flatMap(([state, count]) => Array(count).fill(state));
      map.begin = found.begin;
      map.step = found.step;
      place.hidden = false;
      measure();
      tell();
      draw();
    } catch (error) {
      if (error.status) throw error; // a fault; that the service is away is said elsewhere
    } finally {
      asking = false;
      if (again) { again = false; setTimeout(load, 500); }
    }
  }

  document.getElementById("choose").addEventListener("submit", (event) => {
    event.preventDefault();
    show((Number(document.getElementById("index").value) - map.begin) / map.step);
  });
  document.addEventListener("refreshed", () => { legend(); load(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); draw(); });
  new ResizeObserver(() => { if (map.states.length) { measure(); draw(); } }).observe(place);
  readColours();
  legend();
  await load();
  move((Number(document.getElementById("index").value) - map.begin) / map.step);
}
