/** A transcript in admin: what models wrote as the chat page shows it. Without scripts it stands there as it was written. */

import { MarkdownView } from "./page/rendering.js";

const { copy, copied, loadImage } = /** @type {HTMLElement} */ (document.querySelector(".tr-list")).dataset;
for (const place of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".tr-assistant > .tr-text"))) {
  const text = place.textContent ?? "";
  place.replaceChildren();
  place.classList.add("tr-rendered");
  new MarkdownView(place, { copy, copied, loadImage }).finish(text);
}
