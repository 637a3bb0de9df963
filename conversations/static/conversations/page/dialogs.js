/** Dialogs, and the one that shows the keys. */

import { h, iconButton } from "./dom.js";
import { t } from "./i18n.js";

/**
 * Open a dialog with a title; it is gone when it is closed.
 * @param {string} title
 * @param {...(Node | string)} content
 * @returns {HTMLDialogElement}
 */
export function openDialog(title, ...content) {
  /** @type {HTMLDialogElement} */
  const dialog = h(
    "dialog",
    { class: "dialog", "aria-labelledby": "dialog-title" },
    h(
      "div",
      { class: "dialog-head" },
      h("h2", { id: "dialog-title" }, title),
      iconButton("close", t("Close"), () => dialog.close()),
    ),
    h("div", { class: "dialog-body" }, ...content),
  );
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("pointerdown", (event) => {
    if (event.target === dialog) dialog.close();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Show which keys do what. */
export function showKeys() {
  if (document.querySelector("dialog[open]")) return;
  const rows = [
    ["Enter", t("Send")],
    ["Shift + Enter", t("A new line")],
    ["Esc", t("Close what is open, or stop the answer")],
    ["/", t("Search conversations")],
    ["Ctrl + Shift + O", t("New chat")],
    ["Ctrl + Enter", t("Send what was edited")],
    ["?", t("Show these keys")],
  ];
  const list = h("dl", { class: "keys" });
  for (const [key, does] of rows) list.append(h("dt", {}, h("kbd", {}, key)), h("dd", {}, does));
  openDialog(t("Keys"), list);
}
