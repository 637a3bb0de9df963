/** What is said beside the conversation: short notices, the banner, and what only screen readers hear. */

import { byId, h, iconButton } from "./dom.js";
import { t } from "./i18n.js";

const STAY = 6000;

/**
 * Show a notice for some seconds, perhaps with something to do.
 * @param {string} text
 * @param {{label?: string, run?: () => void, stay?: number}} [action]
 */
export function toast(text, { label, run, stay = STAY } = {}) {
  const close = () => {
    clearTimeout(timer);
    note.remove();
  };
  const act = () => {
    close();
    run?.();
  };
  const button = label ? h("button", { type: "button", class: "button", onclick: act }, label) : null;
  const note = h("div", { class: "toast" }, h("span", {}, text), button, iconButton("close", t("Close"), close));
  const timer = setTimeout(close, stay);
  byId("toasts").append(note);
}

/** @param {string} text For those who listen. */
export function announce(text) {
  const place = byId("announcer");
  place.textContent = "";
  // The same text twice would not be noticed.
  setTimeout(() => (place.textContent = text), 50);
}

/** @type {Map<string, Node[]>} */
const reasons = new Map();

/**
 * Show a banner until it is cleared for the same reason.
 * @param {string} reason
 * @param {...(Node | string)} content
 */
export function showBanner(reason, ...content) {
  if (reasons.has(reason)) return;
  reasons.set(reason, /** @type {Node[]} */ (content));
  drawBanner();
}

/** @param {string} reason */
export function clearBanner(reason) {
  if (reasons.delete(reason)) drawBanner();
}

function drawBanner() {
  const banner = byId("banner");
  const first = reasons.values().next().value;
  banner.hidden = !first;
  banner.replaceChildren(...(first ?? []));
}

/** Tell when the browser is offline. */
export function watchNetwork() {
  const tell = () => {
    if (navigator.onLine) clearBanner("network");
    else showBanner("network", t("You are offline. What you write is kept, and answers go on once you are back."));
  };
  window.addEventListener("offline", tell);
  window.addEventListener("online", tell);
  tell();
}
