// A file of a task, looked at without leaving the page; only what is shown is fetched.

import { make, say, size } from "./page.js";

const FIRST = 64 * 1024;
const MOST_TEXT = 2 * 1024 * 1024; // characters that stand in the page
const MOST_PDF = 64 * 1024 * 1024;
const ROWS = 100;
const MOST_COLUMNS = 60;
const MOST_CELL = 500;

const dialog = document.getElementById("view");
const body = document.getElementById("view-body");
let turn = 0;
let letGo = null;

const PICTURES = /^image\/(png|jpeg|gif|webp|avif|bmp|svg\+xml|vnd\.microsoft\.icon)/;
const TABLES = /^text\/(csv|tab-separated-values)/;

function shownName(path) {
  return path.split("/").map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part.replace(/(%[0-9A-Fa-f]{2})+/g, (bytes) => new TextDecoder().decode(
        Uint8Array.from(bytes.slice(1).split("%"), (two) => parseInt(two, 16))));
    }
  }).join("/");
}

async function part(address, from, to) {
  const response = await fetch(address, { headers: { Range: `bytes=${from}-${to - 1}` }, cache: "no-store", signal: AbortSignal.timeout(60000) });
  const total = /\/(\d+)$/.exec(response.headers.get("Content-Range") ?? "")?.[1];
  if (response.status === 416) return { bytes: new Uint8Array(), total: Number(total ?? 0), kind: "" };
  if (!response.ok) throw new Error(response.status === 404 ? "The file is not there any more." : `The service answered ${response.status}.`);
  const bytes = new Uint8Array(await response.arrayBuffer());
  return { bytes, total: Number(total ?? bytes.length), kind: response.headers.get("Content-Type") ?? "" };
}

/** Show a file; `path` is percent-encoded. */
export async function preview(address, path) {
  const mine = ++turn;
  const name = shownName(path);
  document.getElementById("view-title").replaceChildren(make("bdi", {}, name));
  document.getElementById("view-raw").href = address;
  const load = document.getElementById("view-load");
  load.href = address;
  load.download = name.split("/").pop();
  body.replaceChildren(make("p", { class: "quiet" }, "Loading…"));
  if (!dialog.open) dialog.showModal();
  try {
    const got = await part(address, 0, FIRST);
    if (mine !== turn) return;
    body.replaceChildren(...await show(got, address, name, () => mine === turn));
  } catch (error) {
    if (mine === turn) body.replaceChildren(make("p", { class: "notice bad", role: "alert" }, error instanceof TypeError ? "The service cannot be reached." : error.message));
  }
}

dialog.addEventListener("close", () => {
  turn += 1;
  body.replaceChildren();
  letGo?.();
  letGo = null;
});

async function show(got, address, name, wanted) {
  if (!got.total) return [make("p", { class: "quiet" }, "The file is empty.")];
  if (PICTURES.test(got.kind)) return picture(address, name, got);
  if (got.kind.startsWith("application/pdf")) return document_(address, name, got);
  if (got.kind.startsWith("text/html")) return report(address, name, got, wanted);
  if (binary(got.bytes)) return [make("p", {}, `This file is not text (${size(got.total)}), and there is no preview for its kind. Download it to look at it.`)];
  if (TABLES.test(got.kind)) return table(address, name, got, wanted);
  return text(address, name, got, wanted);
}

const binary = (bytes) => bytes.subarray(0, 8192).includes(0);

function picture(address, name, got) {
  const about = make("p", { class: "quiet" }, size(got.total));
  const image = make("img", { alt: `Picture ${name}` });
  image.addEventListener("load", () => { if (image.naturalWidth) about.textContent = `${image.naturalWidth} × ${image.naturalHeight} · ${size(got.total)}`; });
  image.addEventListener("error", () => image.replaceWith(make("p", { class: "notice bad" }, "The picture cannot be shown.")));
  image.src = address;
  return [about, make("div", { class: "scroll picture", tabindex: "0", role: "region", "aria-label": name }, image)];
}

/** A PDF in the browser's own viewer, which does not work inside a sandbox: as bytes that can be nothing else. */
async function document_(address, name, got) {
  if (got.total > MOST_PDF) return [make("p", {}, `The document is too large to be shown here (${size(got.total)}).`)];
  if (navigator.pdfViewerEnabled === false) return [make("p", {}, "This browser shows no PDF documents. Download it to look at it.")];
  const response = await fetch(address, { signal: AbortSignal.timeout(120000) });
  if (!response.ok) throw new Error(`The service answered ${response.status}.`);
  const url = URL.createObjectURL(new Blob([await response.arrayBuffer()], { type: "application/pdf" }));
  letGo = () => URL.revokeObjectURL(url);
  document.getElementById("view-raw").href = url;
  return [make("iframe", { class: "frame", src: url, title: `Document ${name}` })];
}

/** A job's HTML: the service sends it with a sandbox of its own, and this one is no wider. */
function report(address, name, got, wanted) {
  const frame = make("iframe", { class: "frame", src: address, title: `Page ${name}`, sandbox: "allow-scripts", referrerpolicy: "no-referrer" });
  const source = make("button", { type: "button", "aria-pressed": "false" }, "Source");
  const place = make("div", {}, frame);
  source.addEventListener("click", () => {
    const on = source.getAttribute("aria-pressed") !== "true";
    source.setAttribute("aria-pressed", String(on));
    place.replaceChildren(...(on ? text(address, name, got, wanted) : [frame]));
  });
  return [make("p", { class: "row" }, source), place];
}

/** A button that brings the next piece, and says so. */
function more(label, act) {
  const button = make("button", { type: "button" }, label);
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await act(button);
    } catch (error) {
      say(error instanceof TypeError ? "The service cannot be reached." : error.message);
    }
    button.disabled = false;
  });
  return button;
}

const visible = (text) => text.replace(/\r\n/g, "\n").replace(/[\x00-\x08\x0b-\x1f\x7f]/g, (one) => String.fromCharCode(one === "\x7f" ? 0x2421 : 0x2400 + one.charCodeAt(0)));

function text(address, name, got, wanted) {
  const decoder = new TextDecoder();
  const place = make("pre", { class: "lines", tabindex: "0", role: "region", "aria-label": name });
  const content = document.createTextNode(visible(decoder.decode(got.bytes, { stream: true })));
  place.append(content);
  let at = got.bytes.length;
  const about = make("p", { class: "row quiet" });
  const tell = (total) => {
    about.replaceChildren(at < total ? `The first ${size(at)} of ${size(total)}` : size(total));
    if (at < total && content.length < MOST_TEXT) about.append(button);
  };
  const button = more("More", async () => {
    const next = await part(address, at, at + 4 * FIRST);
    if (!wanted()) return;
    at += next.bytes.length;
    content.appendData(visible(decoder.decode(next.bytes, { stream: true })));
    tell(next.total);
  });
  tell(got.total);
  return [about, place];
}

/* Tables */

/** The rows of comma- or tab-separated text (RFC 4180); `whole`: the last row is complete. */
export function rows(content, separator, most, whole) {
  const found = [];
  let row = [];
  let cell = "";
  let quoted = false;
  let at = 0;
  for (; at < content.length && found.length < most; at += 1) {
    const one = content[at];
    if (quoted) {
      if (one !== '"') cell += one;
      else if (content[at + 1] === '"') { cell += '"'; at += 1; } else quoted = false;
    } else if (one === '"' && cell === "") quoted = true;
    else if (one === separator) { row.push(cell); cell = ""; }
    else if (one === "\n" || (one === "\r" && content[at + 1] !== "\n")) {
      row.push(cell);
      found.push(row);
      row = [];
      cell = "";
    } else if (one !== "\r") cell += one;
  }
  if (at >= content.length && whole && (cell || row.length)) found.push([...row, cell]);
  return found;
}

const cut = (cell) => visible(cell.length > MOST_CELL ? `${cell.slice(0, MOST_CELL)}…` : cell);

function table(address, name, got, wanted) {
  const separator = got.kind.startsWith("text/csv") ? likely(got.bytes) : "\t";
  let most = ROWS;
  let bytes = got.bytes;
  const place = make("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": name });
  const about = make("p", { class: "row quiet", role: "status" });
  const source = make("button", { type: "button", "aria-pressed": "false" }, "As text");
  const draw = () => {
    const whole = bytes.length >= got.total;
    const [head = [], ...found] = rows(new TextDecoder().decode(bytes), separator, most + 1, whole);
    const columns = Math.min(MOST_COLUMNS, Math.max(head.length, ...found.map((row) => row.length)));
    const fill = (row, cell) => Array.from({ length: columns }, (_, at) => cell(cut(row[at] ?? "")));
    place.replaceChildren(make("table", { class: "data" },
      make("thead", {}, make("tr", {}, ...fill(head, (value) => make("th", { scope: "col" }, value || " ")))),
      make("tbody", {}, ...found.map((row) => make("tr", {}, ...fill(row, (value) => make("td", {}, value)))))));
    const all = whole && found.length < most;
    const hidden = Math.max(head.length, ...found.map((row) => row.length)) - columns;
    about.replaceChildren(`${all ? "" : "The first "}${found.length.toLocaleString()} rows${hidden > 0 ? `, the first ${columns} columns` : ""} · ${size(got.total)}`, source);
    if (!all && most < 2000) about.append(button);
  };
  const button = more("More rows", async () => {
    most += 400;
    while (bytes.length < got.total && bytes.length < 16 * 1024 * 1024 && count(bytes) <= most + 1) {
      const next = await part(address, bytes.length, bytes.length * 4);
      if (!wanted() || !next.bytes.length) break;
      const joined = new Uint8Array(bytes.length + next.bytes.length);
      joined.set(bytes);
      joined.set(next.bytes, bytes.length);
      bytes = joined;
    }
    if (wanted()) draw();
  });
  const box = make("div", {}, place);
  source.addEventListener("click", () => {
    const on = source.getAttribute("aria-pressed") !== "true";
    source.setAttribute("aria-pressed", String(on));
    box.replaceChildren(...(on ? text(address, name, got, wanted) : [place]));
  });
  draw();
  const short = count(bytes) <= ROWS && bytes.length < got.total;
  if (short) { most = ROWS - 400; button.click(); }
  return [about, box];
}

const count = (bytes) => bytes.reduce((sum, one) => sum + (one === 10 ? 1 : 0), 0);

/** The separator of a "csv" file: spreadsheets of many countries write semicolons. */
function likely(bytes) {
  const line = new TextDecoder().decode(bytes.subarray(0, 4096)).split("\n")[0];
  const times = (one) => line.split(one).length;
  return [",", ";", "\t"].reduce((best, one) => (times(one) > times(best) ? one : best), ",");
}
