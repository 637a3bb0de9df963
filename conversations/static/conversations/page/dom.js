/** Elements, made of text only: nothing here or elsewhere of the page reads HTML. */

import { icon } from "./icons.js";

/**
 * Make an element. `on…` attributes are listeners; those that are false, null or undefined are left out.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Node | string | null | undefined | false)} children
 * @returns {any}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(.../** @type {(Node | string)[]} */ (children.filter((child) => child || child === "")));
  return element;
}

/**
 * Return the element of the template with that id.
 * @param {string} id
 * @returns {any}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`The template lacks #${id}`);
  return element;
}

/**
 * Make a button that shows a drawing and is called by a name.
 * @param {string} drawing
 * @param {string} label
 * @param {(event: MouseEvent) => void} onclick
 * @param {Record<string, any>} [attributes]
 * @returns {HTMLButtonElement}
 */
export function iconButton(drawing, label, onclick, attributes = {}) {
  const all = { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...attributes };
  return h("button", all, icon(drawing));
}

/**
 * Have these in an element instead of what is there; what had the focus has it again: itself, or a button of its name.
 * @param {HTMLElement} element
 * @param {...(Node | string)} children
 */
export function refill(element, ...children) {
  const { activeElement } = document;
  const focused = element.contains(activeElement) ? /** @type {HTMLElement} */ (activeElement) : null;
  const name = focused?.getAttribute("aria-label");
  element.replaceChildren(...children);
  if (element.contains(focused)) focused?.focus();
  else if (name) [...element.querySelectorAll("button")].find((button) => button.getAttribute("aria-label") === name)?.focus();
}

/**
 * Whether a key belongs to an input method, which Safari tells by its code alone.
 * @param {KeyboardEvent} event
 */
export const isComposing = (event) => event.isComposing || event.keyCode === 229;

/** Give the template's buttons the drawings that they name. */
export function drawIcons() {
  for (const element of document.querySelectorAll("[data-icon]")) {
    element.prepend(icon(element.getAttribute("data-icon") || ""));
    const label = element.getAttribute("aria-label");
    if (label) element.setAttribute("title", label);
  }
}

/**
 * Return the nodes of a text with parts of it marked.
 * @param {string} text
 * @param {[number, number][]} places Of its code points, in order.
 * @returns {(Node | string)[]}
 */
export function marked(text, places) {
  const points = [...text];
  /** @type {(Node | string)[]} */
  const nodes = [];
  let at = 0;
  for (const [from, to] of places) {
    nodes.push(points.slice(at, from).join(""), h("mark", {}, points.slice(from, to).join("")));
    at = to;
  }
  nodes.push(points.slice(at).join(""));
  return nodes;
}

/**
 * Have these rows, and no others, in this order. Only what is out of place is moved, and the focus stays where it was.
 * @param {HTMLElement} list
 * @param {HTMLElement[]} rows
 */
export function arrange(list, rows) {
  const focused = /** @type {HTMLElement | null} */ (document.activeElement);
  const wanted = new Set(rows);
  for (const row of /** @type {HTMLElement[]} */ ([...list.children])) if (!wanted.has(row)) row.remove();
  let next = list.firstElementChild;
  for (const row of rows) {
    if (row === next) next = next.nextElementSibling;
    else list.insertBefore(row, next);
  }
  if (focused !== document.activeElement && focused && list.contains(focused)) focused.focus();
}

/** @returns {string} Random, also where the page came over plain http. */
export function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
