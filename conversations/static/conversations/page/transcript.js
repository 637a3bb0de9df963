/** The messages of the branch that is shown, and where the reader is in them. */

import { AnswerView } from "./answer.js";
import { ResultsMessage } from "./calls.js";
import { arrange, byId } from "./dom.js";
import { UserMessage } from "./message.js";

/** Pixels from the end at which a reader still counts as being there. */
const NEAR = 64;

/** @typedef {import("./message.js").Message} Message */
/** @typedef {import("./message.js").Actions} Actions */
/** @typedef {UserMessage | AnswerView | ResultsMessage} View */

export class Transcript {
  /**
   * @param {Actions} actions
   * @param {() => void} onTop Called when the reader comes near what was loaded first.
   */
  constructor(actions, onTop) {
    this.actions = actions;
    this.log = byId("log");
    this.scroller = byId("scroller");
    this.toEnd = byId("to-end");
    /** @type {View[]} */
    this.views = [];
    this.isFollowing = true;
    this.lastTop = 0;
    this.scroller.addEventListener("scroll", () => this.onScroll(onTop), { passive: true });
    this.scroller.addEventListener("wheel", (/** @type {WheelEvent} */ event) => this.onWheel(event), { passive: true });
    this.toEnd.addEventListener("click", () => this.goToEnd(true));
    new ResizeObserver(() => this.follow()).observe(this.log);
    new ResizeObserver(() => this.follow()).observe(this.scroller);
  }

  /** @param {() => void} onTop */
  onScroll(onTop) {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    const left = scrollHeight - scrollTop - clientHeight;
    // Text that comes moves the end away; only the reader moves up, or the end when it comes nearer.
    if (left < 2 || (left < NEAR && scrollTop > this.lastTop)) this.isFollowing = true;
    else if (scrollTop < this.lastTop - 1) this.isFollowing = false;
    this.lastTop = scrollTop;
    this.toEnd.hidden = left < NEAR * 3;
    if (scrollTop < clientHeight) onTop();
  }

  /** What is meant is known before the first pixel moves. @param {WheelEvent} event */
  onWheel(event) {
    if (event.deltaY < 0 && this.scroller.scrollTop > 0) this.isFollowing = false;
  }

  follow() {
    if (this.isFollowing) this.goToEnd();
  }

  /** @param {boolean} [isAsked] By the reader. */
  goToEnd(isAsked = false) {
    this.isFollowing = true;
    const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.scroller.scrollTo({ top: this.scroller.scrollHeight, behavior: isAsked && !isCalm ? "smooth" : "instant" });
    this.toEnd.hidden = true;
  }

  /**
   * @param {Message} message
   * @returns {View}
   */
  viewOf(message) {
    if (message.role === "tool") return new ResultsMessage(message);
    return message.role === "assistant"
      ? new AnswerView(message, this.actions)
      : new UserMessage(message, this.actions);
  }

  /**
   * Show these messages, and of others those alone that stand above the first of them already. A reader who is not at
   * the end, or writes in a message, stays there.
   * @param {Message[]} messages
   * @returns {boolean} Whether any stand above.
   */
  show(messages) {
    const isNew = this.views.length === 0 || messages.length === 0;
    const first = messages[0]?.id ?? null;
    const above = first === null ? [] : this.views.slice(0, Math.max(0, this.views.findIndex((view) => view.message.id === first)));
    const before = new Map(this.views.map((view) => [view.message.id, view]));
    const shown = messages.map((message) => {
      const view = before.get(message.id);
      return view && (isSame(view.message, message) || view.isEdited) ? view : this.viewOf(message);
    });
    this.views = [...above, ...shown];
    arrange(this.log, this.views.map((view) => view.element));
    if (isNew) this.goToEnd();
    else this.follow();
    return above.length > 0;
  }

  clear() {
    this.show([]);
  }

  /**
   * Show older messages above; what the reader sees stays where it is.
   * @param {Message[]} messages
   */
  prepend(messages) {
    const first = this.views[0]?.element;
    const before = first?.getBoundingClientRect().top ?? 0;
    this.scroller.style.overflowAnchor = "none";
    const added = messages.map((message) => this.viewOf(message));
    this.views.unshift(...added);
    this.log.prepend(...added.map((view) => view.element));
    if (first) this.scroller.scrollTop += first.getBoundingClientRect().top - before;
    this.lastTop = this.scroller.scrollTop;
    requestAnimationFrame(() => this.scroller.style.removeProperty("overflow-anchor"));
  }

  /**
   * @param {Message} message
   * @returns {any} Its view.
   */
  append(message) {
    const view = this.viewOf(message);
    this.views.push(view);
    this.log.append(view.element);
    return view;
  }

  /**
   * Take away a message, and all after it.
   * @param {Message} message
   */
  cutFrom(message) {
    const at = this.views.findIndex((view) => view.message === message);
    if (at < 0) return;
    for (const view of this.views.splice(at)) this.take(view);
  }

  /** Take away one that was not sent. @param {any} view */
  drop(view) {
    const at = this.views.indexOf(view);
    if (at >= 0) this.take(this.views.splice(at, 1)[0]);
  }

  /** @param {View} view */
  take({ element }) {
    // Who was in it by keyboard stays near.
    if (element.contains(document.activeElement)) this.scroller.focus({ preventScroll: true });
    element.remove();
  }

  /** @returns {any} The last view, or undefined. */
  get last() {
    return this.views.at(-1);
  }

  /**
   * @param {any} view
   * @returns {any} The one above it, or undefined.
   */
  before(view) {
    return this.views[this.views.indexOf(view) - 1];
  }

  /**
   * Return what whoever answers in a message's place has to take: that is in what the user said last, and came of it.
   * Of earlier turns a model is told what it takes.
   * @param {Message} message
   */
  above(message) {
    const before = this.views.slice(0, this.views.findIndex((view) => view.message === message));
    const turn = before.slice(Math.max(0, before.findLastIndex((view) => view.message.role === "user")));
    const parts = turn.flatMap((view) => view.message.parts ?? []);
    const has = (/** @type {string} */ type) => parts.some((part) => part.type === type);
    return { hasImages: has("image"), hasTools: has("tool_call") };
  }

  /** @returns {string[]} The ids of messages that were not sent. */
  get unsent() {
    return this.views.flatMap((/** @type {any} */ view) => view.unsent ?? []);
  }

  /** @returns {number | null} The last stored message: after it the next one is said. */
  get leaf() {
    return this.views.findLast((view) => view.message.id !== null)?.message.id ?? null;
  }

  /**
   * @param {number} id
   * @returns {any}
   */
  find(id) {
    return this.views.find((view) => view.message.id === id);
  }

  /**
   * Show a message to the reader, if it is here.
   * @param {number} id
   */
  reveal(id) {
    const element = this.find(id)?.element;
    if (!element) return;
    this.isFollowing = false;
    element.scrollIntoView({ block: "center" });
    element.classList.add("found");
    setTimeout(() => element.classList.remove("found"), 2500);
  }

  /**
   * Who went to another version by keyboard may go on to the next.
   * @param {number} id
   */
  focusVersions(id) {
    if (document.activeElement !== document.body && document.activeElement !== this.scroller) return;
    this.find(id)?.element.querySelector(".branches button:not([disabled])")?.focus({ preventScroll: true });
  }
}

/**
 * Whether what is shown of a message is still true: then what its reader opened in it stays open.
 * @param {Message} shown
 * @param {Message} told
 */
function isSame(shown, told) {
  const isQuiet = told.status !== "running" && shown.status === told.status && shown.role === told.role;
  return isQuiet && String(shown.sibling_ids) === String(told.sibling_ids);
}
