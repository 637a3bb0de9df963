/** Blocks of code: their language, a button that copies, and colours once the code is complete. */

import DOMPurify from "../../vendor/purify.js";

/** Longer code has no colours: to find them would take the page's time. */
const MAX_COLOURED = 20_000;
const COPIED_MS = 2000;
const COLOURS = { ALLOWED_TAGS: ["span"], ALLOWED_ATTR: ["class"], RETURN_DOM_FRAGMENT: true };

let loading = null;
let queue = Promise.resolve();
const idle = () => new Promise((resolve) => setTimeout(resolve));

/**
 * A block of code.
 * @param {string} info what stands after the fence's marks
 * @param {{copy: string}} labels
 * @returns {{element: HTMLElement, code: HTMLElement}}
 */
export function codeBlock(info, labels) {
  const language = info.trim().split(/[\s{,:]/)[0].slice(0, 40);
  const element = document.createElement("figure");
  element.className = "md-code";
  const head = document.createElement("figcaption");
  head.className = "md-code-head";
  const name = document.createElement("span");
  name.className = "md-language";
  name.textContent = language;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "md-copy";
  button.textContent = labels.copy;
  head.append(name, button);
  const pre = document.createElement("pre");
  pre.tabIndex = 0;
  const code = document.createElement("code");
  code.dataset.language = language.toLowerCase();
  pre.append(code);
  element.append(head, pre);
  return { element, code };
}

/**
 * Show what the code is by now; what only grew is added to.
 * @param {HTMLElement} code
 * @param {string} before
 * @param {string} text
 */
export function showCode(code, before, text) {
  const node = code.lastChild;
  if (node?.nodeType === Node.TEXT_NODE && code.childNodes.length === 1 && text.startsWith(before)) {
    node.appendData(text.slice(before.length));
  } else {
    code.textContent = text;
  }
}

/**
 * Colour complete code, one block a task.
 * @param {HTMLElement} code
 * @returns {Promise<void> | null} null where nothing is to be coloured
 */
export function colour(code) {
  const { language } = code.dataset;
  const text = code.textContent;
  if (!language || !text || text.length > MAX_COLOURED) return null;
  queue = queue.then(() => colourNow(code, text, language)).catch(() => {
    loading = null; // the next block tries again
  });
  return queue;
}

async function colourNow(code, text, language) {
  loading ??= import("../../vendor/highlight.js");
  const { default: highlight } = await loading;
  if (!highlight.getLanguage(language)) return;
  await idle();
  if (code.textContent !== text) return;
  const { value } = highlight.highlight(text, { language, ignoreIllegals: true });
  code.replaceChildren(DOMPurify.sanitize(value, COLOURS));
}

/**
 * Copy the code beside a button, and say so on it for a moment.
 * @param {HTMLButtonElement} button
 * @param {{copy: string, copied: string}} labels
 */
export async function copyCode(button, labels) {
  const code = button.closest(".md-code").querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    // No clipboard without TLS, or no leave to use it: then it is selected, to be copied by hand.
    getSelection().selectAllChildren(code);
    return;
  }
  button.textContent = labels.copied;
  setTimeout(() => {
    button.textContent = labels.copy;
  }, COPIED_MS);
}
