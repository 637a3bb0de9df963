/** A field in which a conversation gets another title. */

import { h, isComposing } from "./dom.js";
import { t } from "./i18n.js";

/**
 * @param {string} title The one it has.
 * @param {(title: string | null, isByKey: boolean) => void} done Called once, with the new title, or null where it is
 *   to stay; and whether a key said so.
 * @returns {HTMLInputElement}
 */
export function titleField(title, done) {
  const field = h("input", { class: "rename", "aria-label": t("Title"), maxlength: 200 });
  field.value = title;
  let isDone = false;
  const leave = (/** @type {boolean} */ isMeant, isByKey = false) => {
    if (isDone) return;
    isDone = true;
    done(isMeant ? field.value.trim() : null, isByKey);
  };
  field.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (isComposing(event)) return;
    if (event.key === "Enter") leave(true, true);
    if (event.key === "Escape") leave(false, true);
    event.stopPropagation();
  });
  field.addEventListener("blur", () => leave(true));
  return field;
}
