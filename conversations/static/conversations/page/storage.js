/** What this browser remembers by itself: drafts, what was not sent, choices. It may be switched off, or full. */

const PREFIX = "chat.";
/** @type {Map<string, string>} What is remembered while the page is open where storage does not work. */
const instead = new Map();

/**
 * @param {string} name
 * @returns {any} What was kept, or null.
 */
export function recall(name) {
  try {
    const text = localStorage.getItem(PREFIX + name) ?? instead.get(name);
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

/**
 * Keep or forget the theme, as text: it is read before any module is.
 * @param {string} theme
 */
export function keepTheme(theme) {
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
