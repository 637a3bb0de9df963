/** What a new conversation may begin with. */

import { byId, h } from "./dom.js";
import { t } from "./i18n.js";

/** @param {(text: string) => void} send */
export function showExamples(send) {
  const examples = [
    t("Explain how rainbows form, in simple words."),
    t("Write a short thank-you note to a colleague."),
    t("Give me three ideas for a rainy afternoon."),
    t("Write a Python function that reverses a string."),
  ];
  byId("examples").replaceChildren(
    ...examples.map((text) => h("li", {}, h("button", { type: "button", class: "example", onclick: () => send(text) }, text))),
  );
}
