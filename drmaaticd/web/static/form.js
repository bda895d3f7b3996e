// A script's form: fields are checked when they are left and when all is sent, files are chosen or
// dropped, and sent without leaving the page.

import { make, root, say, size, ui } from "./page.js";
import { fileProblem, filesProblem, textProblem } from "./rules.js";
import { Sending } from "./sending.js";

const form = document.getElementById("form");
const summary = document.getElementById("summary");
const summaryTitle = document.getElementById("summary-title");
const summaryList = document.getElementById("summary-list");
const button = document.getElementById("send");
const largest = Number(form.dataset.largest);
const KEEP = "keep:";

/** One field: its element, and what is in it. */
class Field {
  constructor(element) {
    this.element = element;
    this.name = element.dataset.name;
    this.label = element.dataset.label;
    this.rules = JSON.parse(element.dataset.rules);
    this.control = document.getElementById(`f-${this.name}`);
    this.wrong = document.getElementById(`f-${this.name}-wrong`);
    this.left = false;
    element.addEventListener("focusout", (event) => {
      if (!element.contains(event.relatedTarget) && this.touched) this.check();
    });
    element.addEventListener("input", () => {
      this.touched = true;
      if (this.control.hasAttribute("aria-invalid")) this.check();
    });
    element.addEventListener("change", () => {
      this.touched = true;
      if (this.control.hasAttribute("aria-invalid")) this.check();
    });
  }

  get texts() {
    const values = new FormData(form).getAll(this.name).filter((one) => typeof one === "string");
    return this.element.dataset.kind === "lines" ? values.flatMap((one) => one.split(/\r?\n/)) : values;
  }

  get problem() {
    return textProblem(this.rules, this.texts);
  }

  get focusable() {
    return this.control.matches("fieldset") ? this.control.querySelector("input") : this.control;
  }

  check() {
    this.show(this.problem);
    return !this.control.hasAttribute("aria-invalid");
  }

  show(problem) {
    const described = (this.control.getAttribute("aria-describedby") ?? "").split(" ").filter((one) => one && one !== this.wrong.id);
    this.wrong.hidden = !problem;
    this.wrong.textContent = problem.charAt(0).toUpperCase() + problem.slice(1);
    if (problem) described.push(this.wrong.id);
    if (problem) this.control.setAttribute("aria-invalid", "true");
    else this.control.removeAttribute("aria-invalid");
    if (described.length) this.control.setAttribute("aria-describedby", described.join(" "));
    else this.control.removeAttribute("aria-describedby");
    this.shown = problem;
  }
}

/** A field for files: they may be dropped on it, and each can be removed. */
class FileField extends Field {
  constructor(element) {
    super(element);
    this.files = [];
    this.required = this.rules.required;
    this.list = make("ul", { class: "files chosen", "aria-label": `Files chosen for ${this.label}` });
    this.list.hidden = true;
    this.zone = element.querySelector(".drop");
    this.zone.append(make("span", { class: "quiet" }, this.rules.multiple ? "or drop files here" : "or drop a file here"));
    this.zone.after(this.list);
    this.control.addEventListener("change", () => this.add(this.control.files));
    this.zone.addEventListener("dragover", (event) => {
      event.preventDefault();
      this.zone.classList.add("over");
    });
    this.zone.addEventListener("dragleave", () => this.zone.classList.remove("over"));
    this.zone.addEventListener("drop", (event) => {
      event.preventDefault();
      this.zone.classList.remove("over");
      this.add(event.dataTransfer.files);
    });
    for (const tick of this.kept) tick.addEventListener("change", () => this.check());
    if (this.control.files.length) this.add(this.control.files); // the browser brought them back
  }

  get kept() {
    return [...this.element.querySelectorAll(`input[name="${KEEP}${this.name}"]`)];
  }

  get problem() {
    return filesProblem(this.rules, this.files, this.kept.filter((one) => one.checked).length);
  }

  add(files) {
    const added = [...files].filter((file) => !this.rules.multiple || !this.files.some((one) => same(one, file)));
    if (added.length) this.files = this.rules.multiple ? [...this.files, ...added] : added;
    this.touched = true;
    this.changed();
    if (added.length) say(`${added.map((file) => file.name).join(", ")}: chosen for ${this.label}`);
  }

  remove(file) {
    this.files = this.files.filter((one) => one !== file);
    this.changed();
    this.control.focus();
    say(`${file.name} is removed`);
  }

  changed() {
    const chosen = new DataTransfer();
    for (const file of this.files) chosen.items.add(file);
    this.control.files = chosen.files;
    this.list.replaceChildren(...this.files.map((file) => this.item(file)));
    this.list.hidden = !this.files.length;
    if (!this.rules.multiple) for (const tick of this.kept) tick.checked = tick.checked && !this.files.length;
    this.check();
  }

  item(file) {
    const problem = fileProblem(this.rules, file);
    const remove = make("button", { type: "button", class: "plain", "aria-label": `Remove ${file.name}` }, "Remove");
    remove.addEventListener("click", () => this.remove(file));
    return make("li", {}, make("span", { class: "filename" }, file.name), make("span", { class: "quiet" }, size(file.size)), remove,
      ...(problem ? [make("p", { class: "wrong" }, "This one is refused.")] : []));
  }

  show(problem) {
    super.show(problem);
    this.zone.classList.toggle("invalid", Boolean(problem));
  }
}

const same = (one, other) => one.name === other.name && one.size === other.size && one.lastModified === other.lastModified;

const fields = [...form.querySelectorAll(".field")].map((element) =>
  element.dataset.kind === "file" ? new FileField(element) : new Field(element));
const byName = new Map(fields.map((field) => [field.name, field]));

const sending = new Sending();
let key = newKey();

/** Hard to guess, as the anonymous caller's must be; randomUUID is there with TLS alone. */
function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(18))].map((one) => one.toString(16).padStart(2, "0")).join("");
}

function total() {
  return fields.reduce((sum, field) => sum + (field.files ?? []).reduce((bytes, file) => bytes + file.size, 0), 0);
}

/** Shows what is wrong: a headline, a link to each field; the first of them, or the headline, gets the focus. */
function refuse(headline, others = [], action = null) {
  const bad = fields.filter((field) => field.control.hasAttribute("aria-invalid"));
  summaryTitle.textContent = headline;
  for (const old of summary.querySelectorAll("p")) old.remove();
  if (action) summary.append(make("p", {}, action));
  summaryList.replaceChildren(
    ...bad.map((field) => make("li", {}, link(field))),
    ...others.map((text) => make("li", {}, text)),
  );
  summary.hidden = false;
  if (bad.length) {
    reveal(bad[0]);
    bad[0].focusable.focus();
  } else {
    summary.focus();
  }
}

function link(field) {
  const made = make("a", { href: `#f-${field.name}` }, `${field.label}: ${field.shown}`);
  made.addEventListener("click", (event) => {
    event.preventDefault();
    reveal(field);
    field.focusable.focus();
  });
  return made;
}

function reveal(field) {
  const more = field.element.closest("details");
  if (more) more.open = true;
}

function counted(count) {
  return count === 1 ? "One field needs another value." : `${count} fields need another value.`;
}

/** Whether all fields are right as far as can be told here. */
function checkAll() {
  const wrong = fields.filter((field) => !field.check());
  if (wrong.length) {
    refuse(`Nothing was sent: ${counted(wrong.length).replace(/^O/, "o")}`);
    return false;
  }
  if (total() > largest) {
    refuse(`Nothing was sent: the files have ${size(total())} together, and at most ${size(largest)} are allowed.`);
    return false;
  }
  return true;
}

async function send() {
  if (sending.busy || !checkAll()) return;
  summary.hidden = true;
  button.parentElement.hidden = true;
  addEventListener("beforeunload", warn);
  let outcome;
  try {
    outcome = await sending.send(form.dataset.send, new FormData(form), key);
  } finally {
    removeEventListener("beforeunload", warn);
    button.parentElement.hidden = false;
  }
  if (outcome.task) await done(outcome.task);
  else if (outcome.cancelled) {
    key = newKey();
    refuse("You have cancelled it: nothing was started. What you filled in is still here.");
  } else if (outcome.broken) broken();
  else refused(outcome);
}

function warn(event) {
  event.preventDefault();
}

async function done(task) {
  say("The task is started");
  try {
    const { remember } = await import("./mine.js");
    remember(task.uuid);
  } finally {
    location.assign(ui("task", task.uuid));
  }
}

/** The key stays: if the first sending arrived after all, the second finds its task. */
function broken() {
  const again = make("button", { type: "button", class: "main" }, "Send again");
  again.addEventListener("click", send);
  refuse("The connection broke off. What you filled in is still here; sent again, it makes no second task.", [], again);
}

function refused({ problem, status }) {
  const others = [];
  for (const { name, detail } of problem.errors ?? []) {
    const field = byName.get(name);
    if (field) field.show(detail);
    else others.push(`${name}: ${detail}`);
  }
  if (problem.uuid || (status !== 409 && status < 500)) key = newKey();
  let link = problem.uuid ? make("a", { href: ui("task", problem.uuid) }, "Look at the refused task") : null;
  if (others.length || (problem.errors ?? []).some(({ detail }) => detail.startsWith("is no parameter"))) link = anew();
  refuse(problem.told ?? problem.detail ?? problem.title ?? `The service answered ${status}.`, others, link);
}

/** For a script that is not the one any more that this form was made for: its form as it is now. */
function anew() {
  const query = new URLSearchParams();
  for (const field of fields) if (!field.files) for (const text of field.texts) if (text) query.append(field.name, text);
  const values = query.toString();
  const link = make("a", { href: `${location.pathname}${values && values.length < 8000 ? `?${values}` : ""}` }, "Open the form as it is now");
  return make("span", {}, "The script has changed since this form was opened. ", link, ". Files have to be chosen again.");
}

form.noValidate = true;
form.addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
document.getElementById("sending-cancel").addEventListener("click", () => sending.cancel());
addEventListener("pageshow", (event) => {
  if (event.persisted) key = newKey(); // back from the task: this would be another
});
// A file that misses the field must not take the place of the page.
for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
