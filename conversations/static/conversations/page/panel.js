/** How answers are made: temperature, tokens at most, and what the model is told before all else. */

import { ask } from "./api.js";
import { byId, h } from "./dom.js";
import { keepOptions, recallOptions } from "./drafts.js";
import { t } from "./i18n.js";
import { toast } from "./notices.js";
import { keep, recall } from "./storage.js";

const DEFAULT_TEMPERATURE = 0.7;

export class Panel {
  constructor() {
    this.element = byId("panel");
    this.button = byId("open-panel");
    /** @type {string | null} */
    this.id = null;
    /** @type {{temperature?: number, max_tokens?: number}} What was set, of the fields of `POST /chat`. */
    this.set = {};
    this.systemPrompt = "";
    this.temperature = h("input", { type: "range", id: "temperature", min: 0, max: 2, step: 0.1 });
    this.shown = h("output", { for: "temperature" });
    this.maxTokens = h("input", { type: "number", id: "max-tokens", min: 1, max: 131072, step: 1 });
    this.system = h("textarea", { id: "system-prompt", rows: 4, dir: "auto" });
    this.reset = h("button", { type: "button", class: "button quiet" }, t("Reset"));
    this.element.append(
      field("temperature", t("Temperature"), this.temperature, this.shown),
      field("max-tokens", t("Tokens at most"), this.maxTokens),
      field("system-prompt", t("System prompt"), this.system),
      h("p", { class: "hint" }, t("What the model is told before the conversation, such as “Answer briefly.”")),
      this.reset,
    );
    this.button.addEventListener("click", () => this.toggle());
    this.temperature.addEventListener("input", () => this.keepOptions(Number(this.temperature.value)));
    this.maxTokens.addEventListener("change", () => this.keepOptions());
    this.system.addEventListener("change", () => this.keepSystem());
    this.reset.addEventListener("click", () => this.forget());
    document.addEventListener("pointerdown", ({ target }) => {
      const isOurs = [this.element, this.button].some((element) => element.contains(/** @type {Node} */ (target)));
      if (this.isOpen && !isOurs) this.toggle(false);
    });
    this.moveTo(null, "");
  }

  get isOpen() {
    return !this.element.hidden;
  }

  toggle(isOpen = !this.isOpen) {
    // What is hidden loses the focus: the button is where it came from.
    if (!isOpen && this.element.contains(document.activeElement)) this.button.focus();
    this.element.hidden = !isOpen;
    this.button.setAttribute("aria-expanded", String(isOpen));
    if (isOpen) this.temperature.focus();
  }

  /**
   * Show what counts in a conversation.
   * @param {string | null} id
   * @param {string} systemPrompt
   */
  moveTo(id, systemPrompt) {
    // A key may lead away from what was being written here.
    if (this.system.value !== this.systemPrompt) this.keepSystem();
    this.id = id;
    this.set = recallOptions(id ?? "new");
    this.systemPrompt = id ? systemPrompt : (recall("system.new") ?? "");
    this.system.value = this.systemPrompt;
    this.draw();
  }

  /**
   * Take in what the server has now, unless somebody is writing it.
   * @param {string} systemPrompt
   */
  take(systemPrompt) {
    if (document.activeElement === this.system || systemPrompt === this.systemPrompt) return;
    this.system.value = this.systemPrompt = systemPrompt;
    this.draw();
  }

  draw() {
    this.temperature.value = String(this.set.temperature ?? DEFAULT_TEMPERATURE);
    this.shown.textContent = this.set.temperature ?? t("Default");
    this.maxTokens.value = this.set.max_tokens ?? "";
    this.maxTokens.placeholder = t("Default");
    this.button.classList.toggle("set", Boolean(Object.keys(this.set).length || this.systemPrompt));
  }

  /** @param {number} [temperature] Where that was set now. */
  keepOptions(temperature = this.set.temperature) {
    const tokens = Math.round(Number(this.maxTokens.value));
    this.set = { ...this.set };
    if (temperature !== undefined) this.set.temperature = temperature;
    if (tokens > 0) this.set.max_tokens = Math.min(tokens, 131072);
    else delete this.set.max_tokens;
    keepOptions(this.id ?? "new", this.set);
    this.draw();
  }

  forget() {
    this.set = {};
    keepOptions(this.id ?? "new", this.set);
    this.draw();
  }

  async keepSystem() {
    this.systemPrompt = this.system.value;
    this.draw();
    if (!this.id) {
      keep("system.new", this.systemPrompt);
      return;
    }
    try {
      await ask("PATCH", `conversations/${this.id}`, { body: { system_prompt: this.systemPrompt } });
    } catch (error) {
      toast(/** @type {Error} */ (error).message);
    }
  }

  /**
   * A new conversation got its id, and takes with it what was set for it.
   * @param {string} id
   */
  rename(id) {
    keepOptions(id, this.set);
    keepOptions("new", {});
    keep("system.new", null);
    this.id = id;
  }
}

/**
 * @param {string} id
 * @param {string} label
 * @param {...HTMLElement} controls
 */
function field(id, label, ...controls) {
  return h("div", { class: "field" }, h("label", { for: id }, label), ...controls);
}
