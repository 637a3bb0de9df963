/** What this browser remembers by itself: drafts, what was not sent, choices. It may be switched off, or full. */

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
 * Return what is being written at a place: in this tab, else in another.
 * @param {string} place
 * @returns {string}
 */
export const recallDraft = (place) => recallOwn(`draft.${place}`) ?? recall(`draft.${place}`) ?? "";

/**
 * Keep what is being written: two tabs may write two things at one place, such as a new chat.
 * @param {string} place
 * @param {string} text
 */
export function keepDraft(place, text) {
  keepOwn(`draft.${place}`, text);
  keep(`draft.${place}`, text);
}

/**
 * Return the images of what is being written at a place, as `recallDraft` does its text.
 * @param {string} place
 * @returns {import("./images.js").Picture[]}
 */
export function recallDraftPictures(place) {
  const own = recallOwn(`images.${place}`);
  return (own === null ? recall(`images.${place}`) : JSON.parse(own)) ?? [];
}

/**
 * @param {string} place
 * @param {import("./images.js").Picture[]} pictures
 */
export function keepDraftPictures(place, pictures) {
  keepOwn(`images.${place}`, pictures.length ? JSON.stringify(pictures) : "");
  keep(`images.${place}`, pictures.length ? pictures : null);
}

/**
 * @param {string} name
 * @returns {string | null} What this tab kept.
 */
function recallOwn(name) {
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
function keepOwn(name, text) {
  try {
    if (text) sessionStorage.setItem(PREFIX + name, text);
    else sessionStorage.removeItem(PREFIX + name);
  } catch {
    // It is switched off, or full.
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
