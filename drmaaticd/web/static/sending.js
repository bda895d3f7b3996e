// A form on its way to the service: progress, speed, what is left; to be cancelled, and sent again.

import { duration, ended, guarded, say, size } from "./page.js";

/** Milliseconds over which the speed is taken, and between two changes of the text. */
const WINDOW = 4000;
const PAUSE = 250;

/** Milliseconds after which a form whose first sending is still being taken is sent again, and how often. */
const AGAIN = 1500;
const TRIES = 5;

const panel = document.getElementById("sending");
const title = document.getElementById("sending-title");
const bar = document.getElementById("sending-bar");
const text = document.getElementById("sending-text");
const cancel = document.getElementById("sending-cancel");

/** The speed over the last seconds, in bytes a second. */
class Speed {
  marks = [];

  add(time, bytes) {
    this.marks.push([time, bytes]);
    while (this.marks.length > 2 && time - this.marks[0][0] > WINDOW) this.marks.shift();
  }

  get value() {
    const [first, last] = [this.marks[0], this.marks.at(-1)];
    return last[0] > first[0] ? (1000 * (last[1] - first[1])) / (last[0] - first[0]) : 0;
  }
}

/** One sending at a time. */
export class Sending {
  request = null;
  cancelled = false;
  busy = false;

  /** Sends the form to an address under this idempotency key: {task}, {problem, status}, {broken} or {cancelled}. */
  async send(address, data, key) {
    this.cancelled = false;
    this.busy = true;
    try {
      for (let attempt = 1; ; attempt += 1) {
        const outcome = await this.#once(address, data, key);
        if (!isArriving(outcome) || attempt >= TRIES) return outcome;
        title.textContent = "Sending again";
        text.textContent = "The service has not noticed yet that the line broke.";
        cancel.hidden = false;
        await new Promise((resolve) => { setTimeout(resolve, AGAIN); });
        if (this.cancelled) return { cancelled: true };
      }
    } finally {
      this.busy = false;
      panel.hidden = true;
    }
  }

  cancel() {
    this.cancelled = true;
    this.request?.abort();
  }

  #once(address, data, key) {
    const request = new XMLHttpRequest();
    this.request = request;
    request.open("POST", address);
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("Idempotency-Key", key);
    for (const [name, value] of Object.entries(guarded())) request.setRequestHeader(name, value);
    this.#watch(request.upload);
    return new Promise((resolve) => {
      request.onload = () => {
        if (request.status === 401) ended();
        resolve(outcome(request));
      };
      request.onerror = () => resolve({ broken: true });
      request.onabort = () => resolve({ cancelled: true });
      request.send(data);
    }).finally(() => {
      this.request = null;
    });
  }

  #watch(upload) {
    const speed = new Speed();
    let shownAt = 0;
    let told = 0;
    title.textContent = "Sending";
    bar.value = 0;
    text.textContent = "";
    cancel.hidden = false;
    panel.hidden = false;
    title.focus();
    panel.scrollIntoView({ block: "nearest" });
    upload.onprogress = (event) => {
      const now = performance.now();
      speed.add(now, event.loaded);
      if (now - shownAt < PAUSE || !event.lengthComputable) return;
      shownAt = now;
      const percent = Math.floor((100 * event.loaded) / event.total);
      bar.value = percent;
      text.textContent = progressText(event.loaded, event.total, percent, speed.value);
      if (percent >= told + 25) {
        told = percent - (percent % 25);
        say(`${told} percent is sent`);
      }
    };
    upload.onload = () => {
      title.textContent = "All is sent";
      bar.value = 100;
      text.textContent = "The service is making a task of it.";
      cancel.hidden = true; // too late: a task may come of it
    };
  }
}

/** Whether the key is refused since its first sending is, to the service, still under way. */
const isArriving = ({ status, problem }) => status === 409 && /still arriving/.test(problem.detail ?? "");

function progressText(loaded, total, percent, speed) {
  const parts = [`${percent} %`, `${size(loaded)} of ${size(total)}`];
  if (speed > 0) {
    const left = Math.max(1, Math.round((total - loaded) / speed));
    parts.push(`${size(Math.round(speed))}/s`, `${left < 60 ? `${left} s` : duration(left)} left`);
  }
  return parts.join(" · ");
}

function outcome(request) {
  let document = {};
  try {
    document = JSON.parse(request.responseText);
  } catch {
    document = { told: `Nothing was started: what stands between here and the service answered ${request.status}.` };
  }
  if (request.status === 200 || request.status === 201) return document.uuid ? { task: document } : { broken: true };
  return { problem: document, status: request.status };
}
