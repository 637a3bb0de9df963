/** Menus of a button: by mouse and by keyboard. */

import { h } from "./dom.js";
import { icon } from "./icons.js";

/**
 * @typedef {object} Entry
 * @property {string} label
 * @property {string} [icon]
 * @property {() => void} [run]
 * @property {string} [href] A link instead.
 * @property {boolean} [checked]
 * @property {boolean} [danger]
 * @property {string} [obstacle] Why it cannot be chosen.
 */

/** @type {(() => void) | null} */
let closeOpen = null;

/**
 * Open a menu at a button; a second call for the same one closes it.
 * @param {HTMLElement} button
 * @param {(Entry | "line")[]} entries
 */
export function openMenu(button, entries) {
  const wasOpen = button.getAttribute("aria-expanded") === "true";
  closeOpen?.();
  if (wasOpen) return;
  const menu = h("div", { class: "menu", role: "menu", tabindex: "-1" }, ...entries.map(nodeOf));
  const close = (refocus = false) => {
    menu.remove();
    button.setAttribute("aria-expanded", "false");
    document.removeEventListener("pointerdown", leave, true);
    window.removeEventListener("resize", stay);
    closeOpen = null;
    if (refocus) button.focus();
  };
  const shut = () => close();
  // A phone's keyboard that goes away is a new size of the window, too.
  const stay = () => (button.isConnected ? place(menu, button) : close());
  const leave = (/** @type {Event} */ event) => {
    const target = /** @type {Node} */ (event.target);
    if (!menu.contains(target) && !button.contains(target)) close();
  };
  menu.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => onKey(event, menu, close));
  const isChoice = (/** @type {Event} */ { target }) => target instanceof Element && !target.closest("[aria-disabled]");
  menu.addEventListener("click", (/** @type {Event} */ event) => isChoice(event) && close(true), true);
  closeOpen = shut;
  (button.closest("dialog") ?? document.body).append(menu);
  button.setAttribute("aria-expanded", "true");
  place(menu, button);
  document.addEventListener("pointerdown", leave, true);
  window.addEventListener("resize", stay);
  menu.querySelector("[role^=menuitem]")?.focus();
}

/** @param {Entry | "line"} entry */
function nodeOf(entry) {
  if (entry === "line") return h("hr", { role: "separator" });
  const role = entry.checked === undefined ? "menuitem" : "menuitemradio";
  const all = { class: entry.danger ? "menu-item danger" : "menu-item", role, tabindex: "-1" };
  const drawing = entry.icon ? icon(entry.icon) : null;
  if (entry.href) return h("a", { ...all, href: entry.href }, drawing, entry.label);
  if (entry.obstacle) {
    return h("button", { ...all, type: "button", "aria-disabled": "true" }, entry.label, h("span", { class: "obstacle" }, entry.obstacle));
  }
  const mark = entry.checked ? icon("check") : null;
  return h("button", { ...all, type: "button", "aria-checked": entry.checked?.toString(), onclick: entry.run }, drawing, entry.label, mark);
}

/**
 * @param {KeyboardEvent} event
 * @param {HTMLElement} menu
 * @param {(refocus?: boolean) => void} close
 */
function onKey(event, menu, close) {
  const items = /** @type {HTMLElement[]} */ ([...menu.querySelectorAll("[role^=menuitem]")]);
  const at = items.indexOf(/** @type {HTMLElement} */ (document.activeElement));
  /** @type {Record<string, number>} */
  const moves = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 };
  if (event.key === "Escape" || event.key === "Tab") {
    event.stopPropagation();
    if (event.key === "Escape") event.preventDefault();
    close(true);
  } else if (event.key in moves) {
    event.preventDefault();
    items.at(moves[event.key] % items.length)?.focus();
  }
}

/**
 * Below the button where there is room, else above; never beyond the window.
 * @param {HTMLElement} menu
 * @param {HTMLElement} button
 */
function place(menu, button) {
  const at = button.getBoundingClientRect();
  const size = menu.getBoundingClientRect();
  const below = at.bottom + 4 + size.height <= innerHeight - 8;
  const top = below ? at.bottom + 4 : Math.max(8, at.top - 4 - size.height);
  const left = Math.min(Math.max(8, at.left), innerWidth - 8 - size.width);
  menu.style.top = `${top}px`;
  menu.style.left = `${left}px`;
}
