/** Where messages are written: it grows, keeps drafts, and never sends while an input method composes. */

import { byId, isComposing } from "./dom.js";
import { keepDraft, recallDraft } from "./drafts.js";
import { toast } from "./notices.js";
import { Tray } from "./tray.js";

/** @typedef {import("./images.js").Picture} Picture */

export class Composer {
  /**
   * @param {{send: (text: string, pictures: Picture[]) => void, stop: () => void}} does
   */
  constructor({ send, stop }) {
    this.form = byId("composer");
    /** @type {HTMLTextAreaElement} */
    this.area = byId("message");
    this.sendButton = byId("send");
    this.stopButton = byId("stop");
    this.onSend = send;
    this.where = "new";
    this.isBusy = false;
    /** Whether the message goes as soon as its images are there. */
    this.isWaiting = false;
    this.tray = new Tray({ changed: () => this.onImages(), focus: () => this.focus() });
    /** What was written before the scripts were there. */
    this.early = this.area.value.trimEnd();
    this.form.addEventListener("submit", (/** @type {Event} */ event) => {
      event.preventDefault();
      this.submit();
    });
    this.form.addEventListener("click", (/** @type {Event} */ event) => {
      if (event.target === this.form) this.area.focus();
    });
    this.area.addEventListener("keydown", (event) => this.onKey(event));
    this.area.addEventListener("input", () => this.onInput());
    this.stopButton.addEventListener("click", stop);
    window.addEventListener("resize", () => this.grow());
    this.grow();
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    if (event.key !== "Enter" || event.shiftKey || isComposing(event)) return;
    event.preventDefault();
    this.submit();
  }

  onInput() {
    this.isWaiting = false;
    this.grow();
    this.update();
    keepDraft(this.where, this.area.value);
  }

  submit() {
    const text = this.area.value;
    if (this.isBusy || this.isEmpty) return;
    if (this.tray.obstacle) return toast(this.tray.obstacle);
    if (this.tray.isOnItsWay) return this.wait();
    const pictures = this.tray.handOver();
    this.setText("");
    this.onSend(text.trim(), pictures);
  }

  get isEmpty() {
    return !this.area.value.trim() && this.tray.isEmpty;
  }

  wait() {
    this.isWaiting = true;
    this.update();
    this.focus();
  }

  /** Images came, were sent, failed or went. */
  onImages() {
    const isDue = this.isWaiting && !this.tray.isOnItsWay;
    if (isDue) this.isWaiting = false;
    this.update();
    if (isDue) this.submit();
  }

  /** @param {string} text */
  setText(text) {
    this.area.value = text;
    this.onInput();
  }

  /**
   * What was not sent comes back, unless something else was begun.
   * @param {string} text
   * @param {Picture[]} pictures
   */
  giveBack(text, pictures) {
    if (!this.area.value && this.tray.isEmpty) {
      this.setText(text);
      this.tray.giveBack(pictures);
    }
    this.area.focus();
  }

  /**
   * Show the draft of a conversation.
   * @param {string | null} id
   */
  moveTo(id) {
    this.where = id ?? "new";
    const draft = recallDraft(this.where);
    const early = this.early === draft ? "" : this.early;
    this.early = "";
    this.setText([draft, early].filter(Boolean).join("\n"));
    this.tray.moveTo(this.where);
  }

  /**
   * A new conversation got its id: what is being written belongs there.
   * @param {string} id
   */
  rename(id) {
    keepDraft(this.where, "");
    this.where = id;
    keepDraft(id, this.area.value);
    this.tray.rename(id);
  }

  /**
   * @param {{isBusy: boolean, canStop: boolean}} state
   */
  setState({ isBusy, canStop }) {
    const focused = [this.stopButton, this.sendButton].find((button) => button === document.activeElement);
    this.isBusy = isBusy;
    this.stopButton.hidden = !canStop;
    this.sendButton.hidden = canStop;
    this.update();
    if (focused?.hidden || focused?.disabled) this.focus();
  }

  update() {
    this.sendButton.disabled = this.isBusy || this.isWaiting || this.isEmpty;
    this.tray.explain(this.isWaiting);
  }

  grow() {
    this.area.style.height = "auto";
    this.area.style.height = `${this.area.scrollHeight}px`;
  }

  focus() {
    // On a phone the keyboard would cover what was just opened.
    if (matchMedia("(hover: hover)").matches) this.area.focus();
  }
}
