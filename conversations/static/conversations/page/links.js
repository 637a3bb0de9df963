/** Links and forms of the template that are entries of the menu. */

import { csrfToken } from "./api.js";

/** @returns {import("./menu.js").Entry[]} What the template has for the menu. */
export function menuLinks() {
  return [...document.querySelectorAll("#menu-links a, #menu-links button")].map((element) => {
    const label = element.textContent ?? "";
    if (element instanceof HTMLAnchorElement) return { label, href: element.getAttribute("href") ?? "" };
    return { label, run: () => submit(/** @type {HTMLButtonElement} */ (element)) };
  });
}

/** @param {HTMLButtonElement} button Of a form that the template made, perhaps before a login in another tab. */
function submit({ form }) {
  const token = form?.querySelector("input[name=csrfmiddlewaretoken]");
  if (token instanceof HTMLInputElement) token.value = csrfToken();
  form?.requestSubmit();
}
