/** The keys of the page. */

import { isComposing } from "./dom.js";

/**
 * @param {{search: () => void, newChat: () => void, stop: () => unknown, keys: () => void, close: () => boolean,
 *   write: () => void}} does `close` closes what lies over the conversation, and says whether something did.
 */
export function bindKeys(does) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || isComposing(event)) return;
    const isDialog = document.querySelector("dialog[open]") !== null;
    if (event.key === "Escape" && !isDialog) {
      if (!does.close()) does.stop();
    } else if ((event.ctrlKey || event.metaKey) && event.shiftKey && event.code === "KeyO") {
      event.preventDefault();
      does.newChat();
    } else if (!isDialog && !isWriting(event) && !event.ctrlKey && !event.metaKey && !event.altKey) {
      onPlainKey(event, does);
    }
  });
}

/**
 * @param {KeyboardEvent} event
 * @param {{search: () => void, keys: () => void, write: () => void}} does
 */
function onPlainKey(event, does) {
  const run = { "/": does.search, "?": does.keys, i: does.write }[event.key];
  if (!run) return;
  event.preventDefault();
  run();
}

/** @param {KeyboardEvent} event */
function isWriting(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  return target.matches?.("input:not([type=range]), textarea, select, [contenteditable]") || target.closest?.("[role=menu]") !== null;
}
