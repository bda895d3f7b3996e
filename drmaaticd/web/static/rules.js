// What is wrong with a field's values, in the service's own words (drmaaticd/params.py). The service
// decides; where JavaScript cannot tell as it does, nothing is found here.

const INT = /^[+-]?[0-9]+$/;
const FLOAT = /^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?$/;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const MAX_NUMBER = 64;
const MAX_TEXT = 5000;
const MAX_VALUES = 1000;
const SHOWN = 60;

/** Characters up to which any pattern is tried: JavaScript's own matching may go back and forth. */
const PATIENT = 200;

const ESCAPES = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/** A character that cannot be seen, as Python writes it. */
function escaped(one) {
  const code = one.codePointAt(0);
  if (code < 0x100) return `\\x${code.toString(16).padStart(2, "0")}`;
  return code < 0x10000 ? `\\u${code.toString(16).padStart(4, "0")}` : `\\U${code.toString(16).padStart(8, "0")}`;
}

/** A value as a message shows it: in quotes, cut, without characters that cannot be seen. */
export function shown(text) {
  const characters = [...text];
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const inside = characters.slice(0, SHOWN + 1).map((one) => {
    if (one === quote) return `\\${one}`;
    if (ESCAPES[one]) return ESCAPES[one];
    return one !== " " && /[\p{C}\p{Z}]/u.test(one) ? escaped(one) : one;
  });
  const whole = [...`${quote}${inside.join("")}${quote}`];
  return whole.length <= SHOWN ? whole.join("") : `${whole.slice(0, SHOWN - 1).join("")}…`;
}

/** The pattern as JavaScript has it; null where RE2's syntax may mean another thing, or may take for ever. */
function matcher(pattern, length) {
  if (/\(\?(?!:)|\[\[:|\\[AzQCSsbB]|\)[*+{]/.test(pattern)) return null;
  if (length > PATIENT && pattern.match(/[*+{]/g)?.length > 1) return null;
  try {
    return new RegExp(`^(?:${pattern})$`, "su");
  } catch {
    return null;
  }
}

function number(text, rules) {
  const kind = rules.type === "int" ? "a whole number" : "a number";
  if (text.length > MAX_NUMBER || !(rules.type === "int" ? INT : FLOAT).test(text)) return `must be ${kind} (got ${shown(text)})`;
  const value = Number(text);
  if (!Number.isFinite(value)) return rules.type === "int" ? "" : `must be a finite number (got ${shown(text)})`;
  if (value < (rules.min ?? -Infinity) || value > (rules.max ?? Infinity)) return `must be ${kind} ${rules.range} (got ${shown(text)})`;
  return "";
}

function string(text, rules) {
  const limit = rules.max_length ?? MAX_TEXT;
  const length = [...text].length;
  if (rules.description && length > limit) return `has ${length} characters; at most ${limit} are allowed`;
  if (length > limit) return `must have at most ${limit} characters (has ${length})`;
  const pattern = rules.pattern ? matcher(rules.pattern, length) : null;
  return pattern && !pattern.test(text) ? `must match ${rules.pattern} as a whole (got ${shown(text)})` : "";
}

function uuids(text, rules) {
  const found = text.split(",").map((one) => one.trim()).filter(Boolean);
  const wrong = found.find((one) => !UUID.test(one));
  if (wrong) return `'${wrong.slice(0, 40)}' is no UUID of a task`;
  const count = new Set(found.map((one) => one.toLowerCase())).size;
  return count > rules.most ? `names ${count} tasks; at most ${rules.most} allowed` : "";
}

const KINDS = { int: number, float: number, string, uuids };

/** What is wrong with a field's texts; "" if nothing is. Empty ones count as left out. */
export function textProblem(rules, texts) {
  const given = texts.filter(Boolean);
  if (!given.length) return rules.required ? "is required" : "";
  if (given.length > MAX_VALUES) return `must be given at most ${MAX_VALUES} times (was given ${given.length} times)`;
  for (const text of given) {
    const problem = KINDS[rules.type]?.(text, rules) ?? "";
    if (problem) return problem;
  }
  return "";
}

/** What is wrong with one file; "" if nothing is. */
export function fileProblem(rules, file) {
  const extensions = rules.extensions ?? [];
  if (extensions.length && !extensions.some((one) => file.name.toLowerCase().endsWith(one))) {
    return `must be a file with a name that ends in ${extensions.join(", ")} (got ${shown(file.name)})`;
  }
  if (rules.max_size != null && file.size > rules.max_size) return `must be a file of at most ${rules.max_size_words} (has ${file.size} bytes)`;
  return "";
}

/** What is wrong with a field's files, of which `kept` are taken over from an earlier task. */
export function filesProblem(rules, files, kept) {
  const count = files.length + (rules.multiple || !files.length ? kept : 0);
  if (count > 1 && !rules.multiple) return `must be given once (was given ${count} times)`;
  if (count > MAX_VALUES) return `must be given at most ${MAX_VALUES} times (was given ${count} times)`;
  for (const file of files) {
    const problem = fileProblem(rules, file);
    if (problem) return problem;
  }
  return rules.required && !count ? "is required" : "";
}
