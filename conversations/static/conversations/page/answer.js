/** An answer: what the model thinks, what it says, how that ended, and what can be done with it. */

import { Calls } from "./calls.js";
import { h, iconButton, refill } from "./dom.js";
import { formatCost, formatDuration, formatMoment, formatNumber, t } from "./i18n.js";
import { icon } from "./icons.js";
import { openMenu } from "./menu.js";
import { branchArrows, copyButton, countDown } from "./message.js";
import { announce } from "./notices.js";
import { MarkdownView } from "./rendering.js";

/** How many characters of a finished answer are read out: all of a long one would hold up its reader. */
const ANNOUNCED = 2000;

/** @typedef {import("./message.js").Message} Message */
/** @typedef {import("./message.js").Actions} Actions */

export class AnswerView {
  /**
   * @param {Message} message
   * @param {Actions} actions
   */
  constructor(message, actions) {
    this.message = message;
    this.actions = actions;
    this.text = "";
    this.newThoughts = "";
    this.begun = performance.now();
    this.thinkingTime = 0;
    this.frame = 0;
    this.thought = h("div", { class: "thought-text", dir: "auto" });
    this.thoughtTitle = h("span", {}, t("Thinking…"));
    this.thoughts = h(
      "details",
      { class: "thoughts", hidden: true },
      h("summary", {}, icon("right"), this.thoughtTitle),
      this.thought,
    );
    this.place = h("div", { class: "text", dir: "auto" });
    this.calls = new Calls();
    this.trouble = h("div", { class: "trouble", hidden: true });
    this.tools = h("div", { class: "tools" });
    this.element = h("article", { class: "message assistant", "aria-label": t("Answer") });
    this.element.append(this.thoughts, this.place, this.calls.element, this.trouble, this.tools);
    const labels = { copy: t("Copy"), copied: t("Copied"), loadImage: t("Load the image") };
    this.view = new MarkdownView(this.place, labels);
    if (message.id !== null) this.element.dataset.message = String(message.id);
    if (message.status === "running") this.beginLive();
    else this.showWhole();
  }

  get isEdited() {
    return false;
  }

  beginLive() {
    this.element.classList.add("running");
    this.element.setAttribute("aria-busy", "true");
    this.text = "";
    this.thought.textContent = "";
  }

  /** Show one that has ended, from the history. */
  showWhole() {
    const { reasoning, content } = this.message;
    if (reasoning) {
      this.thoughts.hidden = false;
      this.thoughtTitle.textContent = t("Thoughts");
      this.thought.textContent = reasoning;
      this.tellThinkingTime();
    }
    this.text = content;
    this.view.finish(content);
    this.calls.show(this.message.parts);
    this.showEnd();
  }

  /**
   * Take in an event of its stream.
   * @param {any} data
   */
  take(data) {
    if (data.chunk !== undefined) {
      if (!this.text && !this.thoughts.hidden) this.endThoughts();
      this.text += data.chunk;
      this.frame ||= requestAnimationFrame(() => this.render());
    } else if (data.reasoning !== undefined) {
      this.thoughts.hidden = false;
      this.newThoughts += data.reasoning;
      this.frame ||= requestAnimationFrame(() => this.render());
    } else if (data.tool_call) {
      this.calls.take(data.tool_call);
    } else if (data.error) {
      this.error = data.error;
    }
  }

  render() {
    this.frame = 0;
    this.renderThoughts();
    if (this.text) this.view.update(this.text);
  }

  renderThoughts() {
    if (!this.newThoughts) return;
    this.thought.append(this.newThoughts);
    this.newThoughts = "";
  }

  endThoughts() {
    this.thinkingTime = performance.now() - this.begun;
    this.thoughtTitle.textContent = t("Thought for {time}", { time: formatDuration(this.thinkingTime) });
  }

  /** Tell how long it thought as the server knows it: this page may have come late. */
  tellThinkingTime() {
    const { created_at, reasoning_ended_at } = this.message;
    if (!reasoning_ended_at) return;
    const time = formatDuration(new Date(reasoning_ended_at).getTime() - new Date(created_at).getTime());
    this.thoughtTitle.textContent = t("Thought for {time}", { time });
  }

  /**
   * Show how it ended.
   * @param {any} done The event that ended its stream.
   */
  finish(done) {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    this.renderThoughts();
    this.duration = performance.now() - this.begun;
    if (!this.thoughts.hidden && !this.thinkingTime) this.endThoughts();
    const { status, usage = null, finish_reason = null, message_id } = done;
    this.error = done.error ?? this.error;
    Object.assign(this.message, { status, usage, finish_reason, content: this.text });
    if (message_id) this.identify(message_id);
    this.element.classList.remove("running", "cut");
    this.element.removeAttribute("aria-busy");
    this.view.finish(this.text);
    this.showEnd();
    announce(this.text ? this.text.slice(0, ANNOUNCED) : this.trouble.textContent);
  }

  /** @param {number} id */
  identify(id) {
    this.message.id = id;
    this.element.dataset.message = String(id);
  }

  /**
   * Take what the history tells of it that its stream did not; its text is shown already.
   * @param {Message} message
   */
  complete(message) {
    // A rating that was given meanwhile is newer.
    Object.assign(this.message, message, { feedback: this.message.feedback ?? message.feedback });
    this.tellThinkingTime();
    this.showTools();
  }

  showEnd() {
    const { status, finish_reason } = this.message;
    if (status === "failed") this.showTrouble(this.error?.message || t("The answer failed."), this.error?.retry_after);
    else if (status === "interrupted") this.showTrouble(t("The server was ended in the middle of this answer."));
    else if (status === "stopped") this.note(t("You stopped this answer."));
    else if (finish_reason === "length") this.note(t("It used all the tokens that it may. Raise the limit to get more."));
    else if (this.isEmpty && status === "completed") this.note(t("The model said nothing."));
    this.showTools();
  }

  /** @param {string} text */
  note(text) {
    this.trouble.className = "note";
    this.trouble.replaceChildren(text);
    this.trouble.hidden = false;
  }

  /**
   * @param {string} why
   * @param {number} [seconds]
   */
  showTrouble(why, seconds = 0) {
    const again = h("button", { type: "button", class: "button" }, icon("refresh"), t("Regenerate"));
    again.addEventListener("click", () => this.actions.regenerate(this.message));
    const wait = h("span", { class: "wait" });
    this.trouble.className = "trouble";
    this.trouble.replaceChildren(h("span", {}, why), wait, again);
    this.trouble.hidden = false;
    countDown(wait, seconds, again);
  }

  /**
   * Show what is there of an answer whose stream cannot be read any more.
   * @param {string} why
   */
  lose(why) {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    this.element.classList.remove("running", "cut");
    this.element.removeAttribute("aria-busy");
    this.view.finish(this.text);
    this.note(why);
    this.showTools();
  }

  /** Say that its stream was cut, or goes on. @param {boolean} isConnected */
  setConnected(isConnected) {
    this.element.classList.toggle("cut", !isConnected);
  }

  showTools() {
    const again = iconButton("refresh", t("Regenerate"), () => this.chooseModel(again), { "aria-haspopup": "menu" });
    if (this.message.status === "failed" || this.message.status === "interrupted") again.hidden = true;
    refill(
      this.tools,
      ...[
        branchArrows(this.message, this.actions),
        ...(this.isEmpty ? [] : [copyButton(() => this.text), ...this.ratings()]),
        again,
        h("span", { class: "info" }, ...this.info()),
      ].filter((node) => node !== null),
    );
  }

  /** @param {HTMLElement} button */
  chooseModel(button) {
    const used = this.message.model_type;
    const others = this.actions.models(this.message).filter(({ type }) => type !== used);
    openMenu(button, [
      { label: t("Try again"), icon: "refresh", run: () => this.actions.regenerate(this.message) },
      ...others.map(({ type, name, obstacle }) => ({
        label: t("With {model}", { model: name }),
        obstacle,
        run: () => this.actions.regenerate(this.message, type),
      })),
    ]);
  }

  /** Whether there is nothing to copy, and nothing to rate. */
  get isEmpty() {
    return !this.text && this.calls.isEmpty;
  }

  ratings() {
    if (this.message.id === null) return [];
    const make = (/** @type {string} */ drawing, /** @type {string} */ label, /** @type {number} */ rating) => {
      const pressed = this.message.feedback?.rating === rating;
      const rate = () => this.actions.rate(this.message, pressed ? 0 : rating).then(() => this.showTools());
      return iconButton(drawing, label, rate, { "aria-pressed": String(pressed) });
    };
    return [make("thumbUp", t("Good answer"), 1), make("thumbDown", t("Bad answer"), -1)];
  }

  /** @returns {(Node | string)[]} Model, tokens, time, cost. */
  info() {
    const { model, usage, created_at, ended_at } = this.message;
    const parts = [];
    if (model) parts.push(h("span", { class: "info-model" }, model));
    if (usage?.completion_tokens) {
      const n = formatNumber(usage.completion_tokens);
      parts.push(h("span", {}, usage.completion_tokens === 1 ? t("{n} token", { n }) : t("{n} tokens", { n })));
    }
    const took = ended_at ? new Date(ended_at).getTime() - new Date(created_at).getTime() : this.duration;
    if (took) parts.push(h("span", {}, formatDuration(took)));
    if (usage?.cost) parts.push(h("span", {}, t("cost {n}", { n: formatCost(usage.cost) })));
    if (created_at) parts.forEach((part) => part.setAttribute("title", formatMoment(created_at)));
    return parts;
  }
}
