/** What turns an answer's text into what is seen; plain text where that could not be loaded. */

class PlainView {
  /**
   * @param {HTMLElement} element
   * @param {Record<string, string>} [_labels]
   */
  constructor(element, _labels) {
    this.element = element;
    element.classList.add("plain");
  }

  /** @param {string} text */
  update(text) {
    this.element.textContent = text;
  }

  /** @param {string} text */
  finish(text) {
    this.element.textContent = text;
  }
}

/** @returns {Promise<typeof PlainView>} */
async function load() {
  try {
    // @ts-ignore
    return (await import("./markdown.js")).MarkdownView;
  } catch (error) {
    console.error(error);
    return PlainView;
  }
}

export const MarkdownView = await load();
