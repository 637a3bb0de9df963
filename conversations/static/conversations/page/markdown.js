/**
 * Markdown that grows: an answer as it streams in.
 *
 * Blocks that are complete stay as they are; of the last one only what changed is rendered. So an update costs what the
 * last block does, however long the text is. When the text is complete it is what rendering it at once would give.
 *
 *     const view = new MarkdownView(element, { copy: "Copy", copied: "Copied", loadImage: "Open image" });
 *     view.update("# Ti");
 *     view.update("# Title\n\nSome *te");
 *     await view.finish("# Title\n\nSome *text*.");
 */

import { copyCode } from "./markdown/code.js";
import { parseBlocks } from "./markdown/parser.js";
import { groupsOf, place, trim } from "./markdown/units.js";

const LABELS = { copy: "Copy", copied: "Copied", loadImage: "Open image" };
/** Rendering takes no more than this part of the time, and no more than so many milliseconds at once. */
const SHARE = 1 / 4;
const SLICE_MS = 12;
const DEFINITION = /^ {0,3}\[[^\]]+\]:/m;

const nextTask = () => new Promise((resolve) => setTimeout(resolve));

function offsetOf(text, line) {
  let at = 0;
  for (let count = 0; count < line; count += 1) at = text.indexOf("\n", at) + 1;
  return at;
}

/** Whether what a line begins with cannot change any more, whatever comes. */
function isSettled(text, line) {
  const start = offsetOf(text, line);
  const end = text.indexOf("\n", start);
  if (end < 0) return false;
  return /(?:^|\n)[ \t]*\n$/.test(text.slice(Math.max(0, start - 200), start)) || text.indexOf("\n", end + 1) >= 0;
}

/** A text as Markdown in an element, which is this view's alone. */
export class MarkdownView {
  #element;
  #labels;
  #units = [];
  #source = "";
  #offset = 0; // of the source that is complete
  #complete = 0; // so many units are
  #references = {};
  #latest = "";
  #timer = 0;
  #next = 0;
  #turn = 0;

  /**
   * @param {Element} element
   * @param {{copy?: string, copied?: string, loadImage?: string}} [labels]
   */
  constructor(element, labels = {}) {
    this.#element = element;
    this.#labels = { ...LABELS, ...labels };
    element.classList.add("markdown");
    element.addEventListener("click", (event) => {
      const button = event.target.closest?.("button.md-copy");
      if (button) copyCode(button, this.#labels);
    });
  }

  /**
   * Show a text to which more will come, soon.
   * @param {string} text the whole of it so far
   */
  update(text) {
    this.#latest = text;
    if (this.#timer) return;
    const wait = this.#next - performance.now();
    if (wait > 0) this.#timer = setTimeout(() => this.#stream(), wait);
    else this.#stream();
  }

  /** Whether the latest update is shown. */
  get isCurrent() {
    return this.#timer === 0;
  }

  /**
   * Show a text to which nothing will come.
   * @param {string} text
   * @returns {Promise<void>} once its formulas are set and its code has colours
   */
  async finish(text) {
    this.#stop();
    const turn = this.#turn;
    const context = this.#context({ references: {} }, false);
    const groups = groupsOf(parseBlocks(this.#normal(text), context.env));
    context.references = JSON.stringify(context.env.references);
    let started = performance.now();
    for (const [index, group] of groups.entries()) {
      place(this.#element, this.#units, index, group, context, false);
      if (performance.now() - started < SLICE_MS) continue;
      await nextTask();
      if (turn !== this.#turn) return;
      started = performance.now();
    }
    trim(this.#units, groups.length);
    await Promise.allSettled(context.waiting);
  }

  /** Forget what was complete: whatever comes is looked at as a whole, and changes only what differs. */
  #stop() {
    clearTimeout(this.#timer);
    this.#turn += 1;
    this.#timer = this.#offset = this.#complete = 0;
    this.#source = "";
    this.#references = {};
  }

  #normal(text) {
    return text.replace(/\r\n?/g, "\n").replaceAll("\0", "\ufffd");
  }

  #context(env, open) {
    const references = JSON.stringify(env.references);
    return { env: { ...env, open }, references, open, labels: this.#labels, waiting: [] };
  }

  #stream() {
    const started = performance.now();
    const text = this.#normal(this.#latest);
    if (!text.startsWith(this.#source)) this.#stop();
    this.#timer = 0;
    this.#turn += 1; // a text that was complete is no longer
    this.#source = text;
    const tail = text.slice(this.#offset);
    const context = this.#context({ references: { ...this.#references } }, true);
    const groups = groupsOf(parseBlocks(tail, context.env));
    context.references = JSON.stringify(context.env.references);
    const last = groups.length - 1;
    groups.forEach((group, index) => {
      place(this.#element, this.#units, this.#complete + index, group, context, index === last);
    });
    trim(this.#units, this.#complete + groups.length);
    if (last > 0 && isSettled(tail, groups[last].line)) this.#keep(tail.slice(0, offsetOf(tail, groups[last].line)), last);
    Promise.allSettled(context.waiting);
    const ended = performance.now();
    this.#next = ended + (ended - started) * (1 / SHARE - 1);
  }

  /** Take the beginning of the tail for complete: so many units. */
  #keep(text, units) {
    if (DEFINITION.test(text)) {
      const env = { references: this.#references };
      parseBlocks(text, env);
    }
    this.#offset += text.length;
    this.#complete += units;
  }
}
