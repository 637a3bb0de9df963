/** What this browser remembers by itself: what was not sent, choices. It may be switched off, or full. */

import { randomId } from "./dom.js";

const PREFIX = "chat.";
/** @type {Map<string, string>} What is remembered while the page is open where storage does not work. */
const instead = new Map();

/**
 * @param {string} name
 * @returns {any} What was kept, or null.
 */
export function recall(name) {
  try {
    const text = instead.get(name) ?? localStorage.getItem(PREFIX + name);
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}

/**
 * Keep a value; null, "" and undefined forget it.
 * @param {string} name
 * @param {any} value
 */
export function keep(name, value) {
  try {
    instead.delete(name);
    if (value === null || value === undefined || value === "") localStorage.removeItem(PREFIX + name);
    else localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    if (value) instead.set(name, JSON.stringify(value));
  }
}

/** @returns {string} This tab, also after a reload. */
export function thisTab() {
  try {
    const known = sessionStorage.getItem(PREFIX + "tab");
    if (known) return known;
    const made = randomId();
    sessionStorage.setItem(PREFIX + "tab", made);
    return made;
  } catch {
    return "";
  }
}

/**
 * @param {string} name
 * @returns {string | null} What this tab kept.
 */
export function recallOwn(name) {
  try {
    return sessionStorage.getItem(PREFIX + name);
  } catch {
    return null; // It is switched off.
  }
}

/**
 * @param {string} name
 * @param {string} text
 */
export function keepOwn(name, text) {
  try {
    if (text) sessionStorage.setItem(PREFIX + name, text);
    else sessionStorage.removeItem(PREFIX + name);
  } catch {
    // It is switched off, or full.
  }
}

/** @typedef {[Storage, string, string]} Kept Where, under which key, and what. */

/**
 * Forget all with such names.
 * @param {(name: string) => boolean} isMeant
 * @param {boolean} [isOfTab] What this tab kept alone.
 * @returns {Kept[]} What was there.
 */
export function forget(isMeant, isOfTab = false) {
  if (!isOfTab) for (const name of [...instead.keys()].filter(isMeant)) instead.delete(name);
  try {
    const stores = isOfTab ? [sessionStorage] : [sessionStorage, localStorage];
    return stores.flatMap((store) => {
      const keys = Object.keys(store).filter((key) => key.startsWith(PREFIX) && isMeant(key.slice(PREFIX.length)));
      return keys.map((key) => {
        const value = store.getItem(key) ?? "";
        store.removeItem(key);
        return /** @type {Kept} */ ([store, key, value]);
      });
    });
  } catch {
    return []; // It is switched off.
  }
}

/** Keep again what was forgotten, unless there is something newer. @param {Kept[]} kept */
export function putBack(kept) {
  try {
    for (const [store, key, value] of kept) if (store.getItem(key) === null) store.setItem(key, value);
  } catch {
    // It is full.
  }
}

/**
 * Show a theme, and keep or forget it as text: it is read before any module is.
 * @param {string} theme
 */
export function setTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    if (theme === "system") localStorage.removeItem("chat.theme");
    else localStorage.setItem("chat.theme", theme);
  } catch {
    // It holds until the page is left.
  }
}

/** @returns {string} */
export function recallTheme() {
  return document.documentElement.dataset.theme || "system";
}
