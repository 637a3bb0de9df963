/** What turns an answer's text into what is seen: loaded beside the page, which can be used before it is there. */

/** @type {typeof import("./markdown.js").MarkdownView | null} */
let Markdown = null;

/** Fulfilled once texts are shown as they are meant to be, or never can be. @type {Promise<void>} */
export const isLoaded = import("./markdown.js").then(
  (module) => {
    Markdown = module.MarkdownView;
  },
  (error) => console.error(error),
);

/** A text as Markdown in an element, which is this view's alone; as it is, as long as no more can be had. */
export class MarkdownView {
  /**
   * @param {HTMLElement} element
   * @param {Record<string, string>} labels
   */
  constructor(element, labels) {
    this.element = element;
    this.labels = labels;
    this.text = "";
    this.isFinished = false;
    this.view = Markdown && new Markdown(element, labels);
    if (!this.view) this.showPlain();
  }

  async showPlain() {
    this.element.classList.add("plain");
    await isLoaded;
    if (!Markdown) return;
    this.element.classList.remove("plain");
    this.element.replaceChildren();
    this.view = new Markdown(this.element, this.labels);
    if (this.isFinished) this.finish(this.text);
    else if (this.text) this.update(this.text);
  }

  /**
   * Show a text to which more will come, soon.
   * @param {string} text
   */
  update(text) {
    this.show(text, false);
    this.view?.update(text);
  }

  /**
   * Show a text to which nothing will come.
   * @param {string} text
   */
  finish(text) {
    this.show(text, true);
    this.view?.finish(text);
  }

  /**
   * @param {string} text
   * @param {boolean} isFinished
   */
  show(text, isFinished) {
    this.text = text;
    this.isFinished = isFinished;
    if (!this.view) this.element.textContent = text;
  }
}
