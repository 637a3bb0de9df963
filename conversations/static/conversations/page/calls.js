/** Calls of tools that an answer asks for, and what came of them: folded, as the program wrote them. */

import { h } from "./dom.js";
import { t } from "./i18n.js";
import { icon } from "./icons.js";

/**
 * @param {string} title
 * @param {string} text
 */
function folded(title, text) {
  const shown = h("pre", { class: "call-text", tabindex: 0, dir: "ltr" }, text);
  const summary = h("summary", {}, icon("right"), h("span", {}, title));
  return { element: h("details", { class: "thoughts call" }, summary, shown), shown };
}

/** The calls of one answer. */
export class Calls {
  constructor() {
    this.element = h("div", { class: "calls", hidden: true });
    /** @type {Map<number, HTMLElement>} Where the arguments of each are shown, by its number. */
    this.shown = new Map();
  }

  get isEmpty() {
    return this.shown.size === 0;
  }

  /**
   * Take in more of a call, as a stream tells it.
   * @param {{index: number, name?: string, arguments: string}} call
   */
  take({ index, name, arguments: more }) {
    let shown = this.shown.get(index);
    if (!shown) {
      const call = folded(t("Asks for the tool {name}", { name: name ?? "?" }), "");
      shown = call.shown;
      this.shown.set(index, shown);
      this.element.append(call.element);
      this.element.hidden = false;
    }
    shown.append(more);
  }

  /**
   * Show those that are in the parts of a message.
   * @param {any[] | null | undefined} parts
   */
  show(parts) {
    const calls = (parts ?? []).filter((part) => part.type === "tool_call");
    calls.forEach((call, index) => this.take({ index, name: call.name, arguments: call.arguments }));
  }
}

/** A message of what came of calls. */
export class ResultsMessage {
  /** @param {import("./message.js").Message} message */
  constructor(message) {
    this.message = message;
    this.element = h("article", { class: "message results", "aria-label": t("Results of tools") });
    if (message.id !== null) this.element.dataset.message = String(message.id);
    for (const part of message.parts ?? []) {
      if (part.type === "tool_result") this.element.append(folded(t("What the tool said"), part.content).element);
    }
  }

  get isEdited() {
    return false;
  }
}
