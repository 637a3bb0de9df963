/** A message of the user's, and what all messages share. */

import { h, iconButton, isComposing, refill } from "./dom.js";
import { keepDraft, recallDraft } from "./drafts.js";
import { formatMoment, t } from "./i18n.js";
import { gallery, picturesIn } from "./images.js";
import { announce, toast } from "./notices.js";

/**
 * A message as the API's history has it; one that is just being sent has no `id`.
 * @typedef {object} Message
 * @property {number | null} id
 * @property {"user" | "assistant" | "tool"} role
 * @property {string} content
 * @property {string} reasoning
 * @property {any[] | null} [parts] What content and reasoning cannot say.
 * @property {string} status
 * @property {string} created_at
 * @property {string | null} [ended_at]
 * @property {string | null} [reasoning_ended_at]
 * @property {string} model
 * @property {string} model_type
 * @property {string | null} finish_reason
 * @property {any} usage
 * @property {string | null} generation_id
 * @property {{rating: number} | null} feedback
 * @property {number | null} parent_id
 * @property {number[]} sibling_ids
 */

/**
 * What a conversation lets its messages do.
 * @typedef {object} Actions
 * @property {(message: Message, text: string) => void} edit With its images.
 * @property {(message: Message) => string} draft The place of an edit of it.
 * @property {(message: Message, modelType?: string) => void} regenerate
 * @property {(id: number) => void} showBranch
 * @property {(message: Message, rating: number) => Promise<void>} rate
 * @property {(message: Message) => import("./models.js").Choice[]} models Who may answer instead.
 * @property {() => boolean} isBusy
 */

/**
 * Return the arrows between a message and those beside it, or null where it stands alone.
 * @param {Message} message
 * @param {Actions} actions
 */
export function branchArrows(message, actions) {
  const ids = message.sibling_ids ?? [];
  if (ids.length < 2 || message.id === null) return null;
  const at = ids.indexOf(message.id);
  const go = (/** @type {number} */ to) => () => ids[to] !== undefined && actions.showBranch(ids[to]);
  return h(
    "span",
    { class: "branches", role: "group", "aria-label": t("Versions") },
    iconButton("left", t("Previous version"), go(at - 1), { disabled: at === 0 }),
    h("span", { class: "branch-count" }, `${at + 1}/${ids.length}`),
    iconButton("right", t("Next version"), go(at + 1), { disabled: at === ids.length - 1 }),
  );
}

/**
 * Return the button that copies a text.
 * @param {() => string} text
 */
export function copyButton(text) {
  const button = iconButton("copy", t("Copy"), async () => {
    if (!(await copy(text()))) return toast(t("This browser did not let the page copy."));
    button.classList.add("done");
    announce(t("Copied"));
    setTimeout(() => button.classList.remove("done"), 1500);
  });
  return button;
}

/**
 * @param {string} text
 * @returns {Promise<boolean>}
 */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Over plain http there is no clipboard but the old one.
    const area = h("textarea", { class: "visually-hidden" });
    const focused = /** @type {HTMLElement | null} */ (document.activeElement);
    area.value = text;
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    focused?.focus();
    return done;
  }
}

/** A message of the user's: plain text, which can be edited and sent anew. */
export class UserMessage {
  /**
   * @param {Message} message
   * @param {Actions} actions
   */
  constructor(message, actions) {
    this.message = message;
    this.actions = actions;
    this.pictures = picturesIn(message.parts);
    this.gallery = gallery(this.pictures);
    this.element = h("article", { class: "message user", "aria-label": t("You") });
    this.show(message);
  }

  /** Its images stay as they are: those of a message never change. @param {Message} message */
  show(message) {
    this.message = message;
    if (message.id !== null) this.element.dataset.message = String(message.id);
    const moment = message.created_at ? formatMoment(message.created_at) : undefined;
    this.trouble = h("div", { class: "trouble", role: "alert", hidden: true });
    const text = message.content && h("div", { class: "bubble", dir: "auto", title: moment }, message.content);
    refill(this.element, ...[this.gallery, text].filter(Boolean), this.trouble, this.footer());
  }

  footer() {
    const edit = iconButton("pencil", t("Edit"), () => this.edit());
    if (this.message.id === null) edit.disabled = true;
    const arrows = branchArrows(this.message, this.actions);
    const copy = this.message.content && copyButton(() => this.message.content);
    const kept = this.message.id !== null && recallDraft(this.draft) && h("span", { class: "info" }, t("A change is kept."));
    return h("div", { class: "tools" }, kept || null, copy || null, edit, arrows);
  }

  /** Where what was changed and not sent is kept. */
  get draft() {
    return this.actions.draft(this.message);
  }

  /** Whether somebody writes in it. */
  get isEdited() {
    return this.element.querySelector(".edit") !== null;
  }

  edit() {
    if (this.actions.isBusy()) return;
    const area = h("textarea", { class: "edit-area", "aria-label": t("Edit the message"), dir: "auto" });
    area.value = recallDraft(this.draft) || this.message.content;
    const { draft } = this;
    area.addEventListener("input", () => keepDraft(draft, area.value === this.message.content ? "" : area.value));
    const send = () => {
      const text = area.value.trim();
      if (text || this.pictures.length) this.actions.edit(this.message, text);
    };
    const cancel = () => {
      keepDraft(draft, "");
      this.leaveEdit();
    };
    area.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      if (isComposing(event)) return;
      if (event.key === "Escape") this.leaveEdit(event);
      else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send();
    });
    const buttons = h(
      "div",
      { class: "edit-buttons" },
      h("button", { type: "button", class: "button", onclick: cancel }, t("Cancel")),
      h("button", { type: "button", class: "button primary", onclick: send }, t("Send anew")),
    );
    this.element.replaceChildren(...[this.gallery].filter(Boolean), h("div", { class: "edit" }, area, buttons));
    area.focus();
    area.setSelectionRange(area.value.length, area.value.length);
  }

  /** @param {Event} [event] */
  leaveEdit(event) {
    event?.stopPropagation();
    this.show(this.message);
    if (recallDraft(this.draft)) announce(t("A change is kept."));
    this.element.querySelector(`[aria-label="${t("Edit")}"]`)?.focus();
  }

  /**
   * Say that it was not sent, and what can be done.
   * @param {string} why
   * @param {{seconds?: number, retry: () => void, discard: () => void}} what
   */
  fail(why, { seconds = 0, retry, discard }) {
    const wait = h("span", { class: "wait" });
    const again = h("button", { type: "button", class: "button", onclick: retry }, t("Retry"));
    const away = h("button", { type: "button", class: "button quiet", onclick: discard }, t("Discard"));
    this.trouble.replaceChildren(h("span", {}, t("Not sent."), " ", why), wait, again, away);
    this.trouble.hidden = false;
    countDown(wait, seconds, again);
  }

  clearTrouble() {
    this.trouble.hidden = true;
    this.trouble.replaceChildren();
  }
}

/**
 * Count seconds down beside a button, which works once they are over.
 * @param {HTMLElement} place
 * @param {number} seconds
 * @param {HTMLButtonElement} button
 */
export function countDown(place, seconds, button) {
  if (seconds <= 0) return;
  const end = Date.now() + seconds * 1000;
  button.disabled = true;
  const tick = () => {
    const left = Math.ceil((end - Date.now()) / 1000);
    if (left > 0 && place.isConnected) {
      place.textContent = t("Possible again in {n} s.", { n: left });
      setTimeout(tick, 250);
      return;
    }
    place.textContent = "";
    button.disabled = false;
  };
  setTimeout(tick);
}
