/**
 * What of a text is on the page: a tree of units, each with its element. A unit that is what it was stays untouched.
 */

import { codeBlock, colour, showCode } from "./code.js";
import { setFormulas } from "./maths.js";
import { inlineHtml } from "./parser.js";
import { fragmentOf } from "./sanitize.js";

/**
 * @typedef {object} Group what the parser says of a block
 * @property {"text" | "box" | "code" | "formula" | "rule"} kind
 * @property {string} shape two groups of one shape may share an element
 * @property {string} tag
 * @property {string} content the source of a text, code or formula
 * @property {object[]} tokens what is inside of a box
 * @property {number} line where it begins
 */

/**
 * @typedef {object} Context of one rendering
 * @property {object} env the parser's; `references` are the link definitions
 * @property {string} references the same as text
 * @property {boolean} open whether more text may come
 * @property {{copy: string, copied: string, loadImage: string}} labels
 * @property {Promise<void>[]} waiting for formulas and colours
 */

const ALIGN = { "text-align:left": "md-left", "text-align:center": "md-center", "text-align:right": "md-right" };

function groupOf(token, inside) {
  const hidden = token.hidden === true;
  const tag = hidden ? "span" : token.tag;
  const line = token.map?.[0] ?? 0;
  const kind = inside.length === 1 && inside[0].type === "inline" ? "text" : "box";
  const className = ALIGN[token.attrGet("style") ?? ""] ?? "";
  const start = token.attrGet("start") ?? "";
  const content = kind === "text" ? inside[0].content : "";
  return { kind, tag, line, className, start, content, tokens: inside, shape: [kind, tag, className, start].join() };
}

function single(token) {
  const line = token.map?.[0] ?? 0;
  if (token.type === "fence" || token.type === "code_block") {
    return { kind: "code", line, info: token.info, content: token.content, shape: `code,${token.info}` };
  }
  if (token.type === "formula_block") {
    const shape = `formula,${token.meta.pending}`;
    return { kind: "formula", line, pending: token.meta.pending, content: token.content, shape };
  }
  return { kind: "rule", line, content: "", shape: "rule" };
}

/**
 * The parser's tokens of one level.
 * @returns {Group[]}
 */
export function groupsOf(tokens) {
  const groups = [];
  for (let index = 0; index < tokens.length; index += 1) {
    const token = tokens[index];
    if (token.nesting !== 1) {
      groups.push(single(token));
      continue;
    }
    let end = index + 1;
    while (tokens[end].nesting !== -1 || tokens[end].level !== token.level) end += 1;
    groups.push(groupOf(token, tokens.slice(index + 1, end)));
    index = end;
  }
  return groups;
}

function boxed(tag, className) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  return element;
}

/** A unit of a group's shape, with nothing in it yet. */
function create(group, { labels }) {
  const unit = { shape: group.shape, key: null, children: [] };
  if (group.kind === "code") {
    const { element, code } = codeBlock(group.info, labels);
    return { ...unit, element, inner: code, key: "" };
  }
  if (group.kind === "formula") {
    const element = boxed("div", "md-formula-block");
    element.tabIndex = 0;
    return { ...unit, element, inner: element };
  }
  if (group.kind === "rule") return { ...unit, element: document.createElement("hr") };
  const inner = boxed(group.tag, group.className);
  if (group.start) inner.start = Number(group.start);
  if (group.tag !== "table") return { ...unit, element: inner, inner };
  const element = boxed("div", "md-table");
  element.tabIndex = 0;
  element.append(inner);
  return { ...unit, element, inner };
}

/** Fill a unit with what a group says. A promise says that formulas or colours are still to come. */
function fillText(unit, group, context) {
  // A link may be defined elsewhere.
  const key = group.content.includes("[") ? `${group.content}\n${context.references}` : group.content;
  if (unit.key === key) return wait(context, unit.pending);
  unit.key = key;
  const fragment = fragmentOf(inlineHtml(group.content, context.env));
  for (const image of fragment.querySelectorAll("a.md-image")) image.title = context.labels.loadImage;
  unit.pending = wait(context, setFormulas(fragment));
  unit.inner.replaceChildren(fragment);
}

function fillCode(unit, group, context, grows) {
  // The marks that are about to end it are no code.
  const text = grows ? group.content.replace(/(^|\n) *(?:`+|~+)$/, "$1") : group.content;
  if (unit.key !== text) {
    showCode(unit.inner, unit.key, text);
    unit.key = text;
    unit.pending = undefined;
  }
  if (grows) return;
  // What an earlier update began may not have ended.
  if (unit.pending === undefined) unit.pending = colour(unit.inner);
  wait(context, unit.pending);
}

function fillFormula(unit, group, context) {
  if (unit.key === group.content) return wait(context, unit.pending);
  unit.key = group.content;
  const code = boxed("code", group.pending ? "" : "md-formula md-display");
  code.textContent = group.content;
  unit.inner.replaceChildren(code);
  unit.pending = wait(context, setFormulas(unit.inner));
}

function wait({ waiting }, promise) {
  if (promise) waiting.push(promise);
  return promise;
}

function fill(unit, group, context, grows) {
  if (group.kind === "text") fillText(unit, group, context);
  else if (group.kind === "code") fillCode(unit, group, context, grows);
  else if (group.kind === "formula") fillFormula(unit, group, context);
  else if (group.kind === "box") fillBox(unit, group, context, grows);
}

function fillBox(unit, group, context, grows) {
  const groups = groupsOf(group.tokens);
  groups.forEach((each, index) => place(unit.inner, unit.children, index, each, context, grows && index === groups.length - 1));
  trim(unit.children, groups.length);
}

/**
 * Let the unit at an index be what a group says.
 * @param {Element} parent
 * @param {object[]} units
 * @param {number} index
 * @param {Group} group
 * @param {Context} context
 * @param {boolean} grows whether it is the last, to which more may come
 */
export function place(parent, units, index, group, context, grows) {
  const old = units[index];
  if (old?.shape === group.shape) {
    fill(old, group, context, grows);
    return;
  }
  const unit = create(group, context);
  fill(unit, group, context, grows);
  if (old) old.element.replaceWith(unit.element);
  else parent.append(unit.element);
  units[index] = unit;
}

/** Take away what comes after so many units. */
export function trim(units, length) {
  units.splice(length).forEach((unit) => unit.element.remove());
}
