// The output of a job, followed by Range requests: only its end is in the page, whatever its size.

import { make, size } from "./page.js";

const FIRST = 16 * 1024; // bytes of the end that are shown at first
const BLOCK = 64 * 1024; // bytes that "earlier" brings
const MOST_BLOCKS = 8;
const MOST_SPANS = 350; // coloured pieces in the page; more are shown without colour
const GAP = 512 * 1024; // a follower that is further behind goes on at the end
const EVERY = 500; // milliseconds between two looks
const HIDDEN = 4000;

/* Colours (ECMA-48, "SGR") */

const NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
const ESCAPE = /\x1b(?:\[([0-?]*)[ -/]*([@-~]?)|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~]?)/g;
const CONTROL = /[\x00-\x08\x0b-\x1f\x7f]/g;

const visible = (text) => text.replace(CONTROL, (one) => (one === "\x7f" ? "␡" : String.fromCharCode(0x2400 + one.charCodeAt(0))));

/** The nearest of the eight colours, so that all of them can be read on light and dark ground. */
function nearest(red, green, blue) {
  const most = Math.max(red, green, blue);
  if (most - Math.min(red, green, blue) < 48) return "";
  const bit = (value) => (value > most * 0.6 ? 1 : 0);
  return NAMES[bit(red) + 2 * bit(green) + 4 * bit(blue)];
}

function indexed(number) {
  if (number < 16) return NAMES[number % 8];
  if (number > 231) return "";
  const level = (step) => [0, 95, 135, 175, 215, 255][step % 6];
  const cube = number - 16;
  return nearest(level(Math.floor(cube / 36)), level(Math.floor(cube / 6)), level(cube));
}

/** The style after the parameters of one "m"; styles are texts of class names. */
function styled(style, parameters) {
  const set = new Set(style.split(" ").filter(Boolean));
  const colour = (name) => {
    for (const one of [...set]) if (one.startsWith("fg-")) set.delete(one);
    if (name && name !== "black" && name !== "white") set.add(`fg-${name}`);
  };
  const codes = parameters.split(/[;:]/).map(Number);
  while (codes.length) {
    const code = codes.shift();
    if (code === 0) set.clear();
    else if (code === 1) set.add("bold");
    else if (code === 4) set.add("under");
    else if (code === 22) set.delete("bold");
    else if (code === 24) set.delete("under");
    else if (code === 39) colour("");
    else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97)) colour(NAMES[code % 10]);
    else if (code === 38 || code === 48) {
      const kind = codes.shift();
      const name = kind === 5 ? indexed(codes.shift() ?? 0) : nearest(...codes.splice(0, 3));
      if (code === 38) colour(name);
    }
  }
  return [...set].sort().join(" ");
}

/** What a terminal shows of a line: [text, style] pieces, and the style at its end. */
function pieces(line, style) {
  const found = [];
  const body = line.replace(/\r+$/, "");
  const begin = body.lastIndexOf("\r") + 1; // what stands before was written over
  let at = 0;
  const put = (to) => { if (to > Math.max(at, begin)) found.push([visible(body.slice(Math.max(at, begin), to)), style]); };
  for (const match of body.matchAll(ESCAPE)) {
    put(match.index);
    at = match.index + match[0].length;
    if (match[2] === "m") style = styled(style, match[1]);
  }
  put(body.length);
  return [found, style];
}

/** One element with a part of the log; neighbouring pieces of one style are one node. */
class Block {
  constructor(start) {
    this.start = start;
    this.end = start;
    this.spans = 0;
    this.element = make("div", { class: "block" });
  }

  put(text, style, view) {
    if (!text) return;
    const last = this.element.lastChild;
    if (style && view.spans < MOST_SPANS) {
      if (last?.nodeType === 1 && last.className === style) {
        last.firstChild.appendData(text);
        return;
      }
      this.element.append(make("span", { class: style }, text));
      this.spans += 1;
      view.spans += 1;
    } else if (last?.nodeType === 3) last.appendData(text);
    else this.element.append(text);
  }

  /** Put whole lines; the style at their end. */
  lines(text, style, view) {
    if (!style && !/[\x00-\x08\x0b-\x1f\x7f]/.test(text)) {
      this.put(text, "", view);
      return style;
    }
    const lines = text.split("\n");
    lines.forEach((line, number) => {
      const [found, after] = pieces(line, style);
      for (const [part, how] of found) this.put(part, how, view);
      if (number < lines.length - 1) this.put("\n", "", view);
      style = after;
    });
    return style;
  }
}

/** Where a block that was cut anywhere begins to be lines, or at least characters (RFC 3629). */
function lineStart(bytes) {
  const newline = bytes.indexOf(10);
  if (newline >= 0 && newline < bytes.length - 1) return newline + 1;
  let at = 0;
  while (at < 4 && at < bytes.length && (bytes[at] & 0xc0) === 0x80) at += 1;
  return at;
}

/** Follows one file. `report` is told of {lost, size}. */
export class Log {
  constructor(label, report) {
    this.report = report;
    this.earlierButton = make("button", { type: "button", class: "more" }, "Earlier lines");
    this.laterButton = make("button", { type: "button", class: "more" }, "Later lines");
    this.text = make("div", { class: "text" });
    this.box = make("pre", { class: "lines", tabindex: "0", role: "region", "aria-label": label });
    this.box.append(this.earlierButton, this.text, this.laterButton);
    this.note = make("p", { class: "quiet" });
    this.element = make("div", {}, this.note, this.box);
    this.following = true;
    this.live = true;
    this.shown = false;
    this.earlierButton.addEventListener("click", () => this.earlier());
    this.laterButton.addEventListener("click", () => this.later());
    this.box.addEventListener("scroll", () => this.scrolled(), { passive: true });
    this.reset();
  }

  reset() {
    this.blocks = [];
    this.spans = 0;
    this.end = null; // the offset up to which the file was read; null: not yet
    this.size = null;
    this.open = "";
    this.style = "";
    this.detached = false;
    this.decoder = new TextDecoder();
    this.openBlock = null;
    this.text.replaceChildren();
    this.draw();
  }

  /** Show another file. */
  set(address) {
    this.address = address;
    this.turn = (this.turn ?? 0) + 1;
    this.following = true;
    this.reset();
    if (this.shown) this.look();
  }

  show(shown) {
    this.shown = shown;
    if (shown) this.look();
  }

  /** The task goes on (true), or has ended: then what is left is read, and no more is looked for. */
  setLive(live) {
    this.live = live;
    this.left = 4;
    if (this.shown) this.look();
  }

  draw() {
    const first = this.blocks[0];
    const before = first ? first.start : 0;
    this.earlierButton.hidden = !before;
    this.earlierButton.textContent = `Earlier lines (${size(before)})`;
    this.laterButton.hidden = !this.detached;
    this.box.hidden = !this.blocks.length;
    this.note.hidden = !!this.blocks.length;
    this.note.textContent = this.size === 0 && !this.live ? "Nothing was written."
      : this.live ? "There is nothing yet." : "There is no output.";
    this.report({ size: this.size, following: this.following, detached: this.detached });
  }

  scrolled() {
    const bottom = this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < 24;
    if (bottom === this.following) return;
    this.following = bottom && !this.detached;
    this.report({ following: this.following });
  }

  /** Go to the end and stay there. */
  follow(on) {
    this.following = on;
    if (on && (this.detached || this.behind)) {
      this.behind = false;
      this.reset();
      this.look();
    }
    if (on) this.box.scrollTop = this.box.scrollHeight;
    this.report({ following: on });
  }

  /* Reading */

  async fetch(range) {
    // Past the browser's cache: that would ask with If-Range, and be sent the whole of a file that has grown.
    const response = await fetch(this.address, { headers: { Range: `bytes=${range}` }, cache: "no-store", signal: AbortSignal.timeout(30000) });
    const bytes = response.ok ? new Uint8Array(await response.arrayBuffer()) : null;
    const [, start, total] = /^bytes (?:(\d+)-\d+|\*)\/(\d+)$/.exec(response.headers.get("Content-Range") ?? "") ?? [];
    return { response, bytes, start: Number(start ?? 0), total: total === undefined ? bytes?.length : Number(total) };
  }

  /** Look now, and again in a while. */
  look() {
    clearTimeout(this.timer);
    if (this.looking || !this.address) { this.again = true; return; }
    this.looking = true;
    this.again = false;
    const turn = this.turn;
    let wait = document.hidden ? HIDDEN : EVERY;
    this.read(turn).then((more) => {
      this.pause = 0;
      this.report({ lost: false });
      if (more > 0) wait = more;
    }, (error) => {
      this.pause = Math.min((this.pause ?? 0) + 1000, 5000);
      wait = this.pause;
      this.report({ lost: true, error });
    }).finally(() => {
      this.looking = false;
      if (!this.live && !this.pause && !this.again) this.left -= 1;
      if (this.again) this.look();
      else if (this.shown && (this.live || this.left > 0)) this.timer = setTimeout(() => this.look(), wait);
    });
  }

  /** Read what is new; milliseconds to wait if not the usual. */
  async read(turn) {
    if (this.detached || this.behind) return 0;
    const asked = this.end;
    const got = await this.fetch(asked === null ? `-${FIRST}` : `${asked}-${asked + GAP - 1}`);
    if (turn !== this.turn || asked !== this.end) return 1;
    const { response, bytes, start, total } = got;
    if (response.status === 429 || response.status === 503) return 1000 * Number(response.headers.get("Retry-After") ?? 2);
    if (response.status === 404) return 0;
    if (response.status === 401 || response.status === 403) {
      this.note.textContent = "You may not read this output.";
      return 10000;
    }
    if (response.status === 416) {
      this.size = total;
      if (asked !== null && total < asked) this.reset(); // it was begun anew
      else this.draw();
      return 0;
    }
    if (!response.ok) throw new Error(`Status ${response.status}`);
    this.size = total;
    if (!bytes.length) {
      this.end = start;
      this.draw();
      return 0;
    }
    if (asked !== null && total - asked > GAP && this.following) {
      this.reset();
      return 1;
    }
    this.append(bytes, start, asked === null);
    return total > this.end ? 1 : 0;
  }

  append(bytes, start, first) {
    if (first) {
      const cut = start > 0 ? lineStart(bytes) : 0;
      bytes = bytes.subarray(cut);
      start += cut;
      this.blocks = [];
    }
    this.end = start + bytes.length;
    this.openBlock?.element.remove();
    let text = this.open + this.decoder.decode(bytes, { stream: true });
    const whole = text.length > BLOCK && !text.includes("\n") ? text.length : text.lastIndexOf("\n") + 1;
    let block = this.blocks.at(-1);
    if (!block || block.end - block.start > BLOCK / 2 || block.spans > MOST_SPANS / 4) {
      block = new Block(start);
      this.blocks.push(block);
      this.text.append(block.element);
    }
    if (whole) this.style = block.lines(text.slice(0, whole), this.style, this);
    block.end = this.end;
    this.setOpen(text.slice(whole));
    this.trim();
    this.draw();
    if (this.following) this.box.scrollTop = this.box.scrollHeight;
  }

  /** The last line, which may go on, or be written anew. */
  setOpen(text) {
    const begin = text.length > 4096 ? text.replace(/\r+$/, "").lastIndexOf("\r") : -1;
    if (begin > 0) {
      [, this.style] = pieces(text.slice(0, begin), this.style);
      text = text.slice(begin);
    }
    this.open = text;
    this.openBlock = new Block(this.end);
    const spans = this.spans;
    this.openBlock.lines(text, this.style, this);
    this.spans = spans;
    this.text.append(this.openBlock.element);
  }

  trim() {
    const over = () => this.blocks.length > MOST_BLOCKS || this.spans > MOST_SPANS * 0.8;
    if (this.following) while (this.blocks.length > 1 && over()) this.drop(this.blocks.shift());
    else if (this.blocks.length > 2 * MOST_BLOCKS) this.behind = true;
  }

  drop(block) {
    this.spans -= block.spans;
    block.element.remove();
  }

  /* Backwards and forwards */

  async earlier() {
    const before = this.blocks[0].start;
    const turn = this.turn;
    const got = await this.part(Math.max(0, before - BLOCK), before);
    if (!got || turn !== this.turn || this.blocks[0]?.start !== before) return;
    const cut = got.start > 0 ? lineStart(got.bytes) : 0;
    const block = new Block(got.start + cut);
    block.end = before;
    block.lines(new TextDecoder().decode(got.bytes.subarray(cut)), "", this);
    const height = this.box.scrollHeight;
    this.following = false;
    this.blocks.unshift(block);
    this.text.prepend(block.element);
    if (this.blocks.length > MOST_BLOCKS) {
      this.drop(this.blocks.pop());
      this.detach();
    }
    this.draw();
    this.box.scrollTop += this.box.scrollHeight - height;
  }

  detach() {
    this.detached = true;
    this.openBlock?.element.remove();
    this.openBlock = null;
  }

  async later() {
    const after = this.blocks.at(-1).end;
    const turn = this.turn;
    const got = await this.part(after, after + BLOCK);
    if (!got || turn !== this.turn || this.blocks.at(-1)?.end !== after) return;
    if (got.start + got.bytes.length >= got.total) {
      this.follow(true);
      return;
    }
    const cut = got.bytes.lastIndexOf(10) + 1 || got.bytes.length;
    const block = new Block(after);
    block.end = after + cut;
    block.lines(new TextDecoder().decode(got.bytes.subarray(0, cut)), "", this);
    this.blocks.push(block);
    this.text.append(block.element);
    if (this.blocks.length > MOST_BLOCKS) {
      const height = this.box.scrollHeight;
      this.drop(this.blocks.shift());
      this.box.scrollTop -= height - this.box.scrollHeight;
    }
    this.draw();
  }

  async part(from, to) {
    try {
      const got = await this.fetch(`${from}-${to - 1}`);
      this.report({ lost: false });
      return got.bytes && { ...got, start: from };
    } catch (error) {
      this.report({ lost: true, error });
      return null;
    }
  }
}
