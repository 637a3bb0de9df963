/** Images that are pasted, or dropped anywhere on the page. */

import { byId } from "./dom.js";

/**
 * @param {{add: (files: File[]) => void, isWelcome: () => boolean}} does
 */
export function bindDropping({ add, isWelcome }) {
  const target = byId("drop-target");
  /** Whether something of the page itself is being dragged. */
  let isOwn = false;
  const isFiles = (/** @type {DragEvent} */ event) => !isOwn && Boolean(event.dataTransfer?.types.includes("Files"));
  const isDialog = () => document.querySelector("dialog[open]") !== null;

  /** @param {DragEvent} event */
  const over = (event) => {
    if (!isFiles(event)) return;
    event.preventDefault(); // the browser would leave the page for the file
    const isTaken = isWelcome() && !isDialog();
    target.hidden = !isTaken;
    if (event.dataTransfer) event.dataTransfer.dropEffect = isTaken ? "copy" : "none";
  };
  document.addEventListener("dragstart", () => (isOwn = true));
  document.addEventListener("dragend", () => (isOwn = false));
  document.addEventListener("dragenter", over);
  document.addEventListener("dragover", over);
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) target.hidden = true;
  });
  document.addEventListener("drop", (event) => {
    target.hidden = true;
    if (!isFiles(event)) return;
    event.preventDefault();
    if (!isDialog()) add([...(event.dataTransfer?.files ?? [])]);
  });
  document.addEventListener("paste", (event) => {
    if (isDialog() || isElsewhere(event)) return;
    const files = pasted(event.clipboardData);
    if (!files.length) return;
    event.preventDefault();
    add(files);
  });
}

/** Whether somebody pastes into another field than the message's. @param {ClipboardEvent} event */
function isElsewhere({ target }) {
  return target instanceof HTMLElement && target.id !== "message" && target.matches("input, textarea, select");
}

/**
 * Return the images of a clipboard. What was copied from a text or a table has a picture of itself beside the text.
 * @param {DataTransfer | null} data
 * @returns {File[]}
 */
function pasted(data) {
  if (!data || (data.getData("text/plain") && data.getData("text/html"))) return [];
  return [...data.files].filter((file) => file.type.startsWith("image/"));
}
