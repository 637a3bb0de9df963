/** A field in which a conversation gets another title. */

import { h } from "./dom.js";
import { t } from "./i18n.js";

/**
 * @param {string} title The one it has.
 * @param {(title: string | null) => void} done Called once, with the new title, or null where it is to stay.
 * @returns {HTMLInputElement}
 */
export function titleField(title, done) {
  const field = h("input", { class: "rename", "aria-label": t("Title"), maxlength: 200 });
  field.value = title;
  let isDone = false;
  const leave = (/** @type {boolean} */ isMeant) => {
    if (isDone) return;
    isDone = true;
    done(isMeant ? field.value.trim() : null);
  };
  field.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.isComposing) return;
    if (event.key === "Enter") leave(true);
    if (event.key === "Escape") leave(false);
    event.stopPropagation();
  });
  field.addEventListener("blur", () => leave(true));
  return field;
}
