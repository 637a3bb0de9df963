/** Search as you type: what was found stands where the list is, with the words marked. */

import { ask } from "./api.js";
import { config } from "./config.js";
import { byId, h, isComposing, marked } from "./dom.js";
import { t } from "./i18n.js";

const PAUSE = 180;

export class Search {
  /**
   * @param {import("./sidebar.js").Sidebar} sidebar
   * @param {(id: string, messageId?: number) => void} open
   */
  constructor(sidebar, open) {
    this.sidebar = sidebar;
    this.onOpen = open;
    /** @type {HTMLInputElement} */
    this.field = byId("search");
    this.timer = 0;
    this.asking = new AbortController();
    this.field.addEventListener("input", () => this.later());
    this.field.addEventListener("keydown", (event) => {
      if (isComposing(event)) return;
      if (event.key === "Escape" && this.field.value) {
        event.stopPropagation();
        this.end();
      } else if (event.key === "ArrowDown") {
        event.preventDefault();
        byId("conversations").querySelector("a")?.focus();
      } else if (event.key === "Enter") {
        this.openFirst();
      }
    });
  }

  later() {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => this.find(), PAUSE);
  }

  /** Open the first that is found for what the field says now. */
  async openFirst() {
    clearTimeout(this.timer);
    await this.find();
    if (this.field.value) byId("conversations").querySelector("a")?.click();
  }

  end() {
    this.field.value = "";
    this.find();
  }

  async find() {
    this.asking.abort();
    this.asking = new AbortController();
    const { signal } = this.asking;
    const words = this.field.value.trim();
    this.sidebar.isHidden = words !== "";
    if (!words) {
      this.sidebar.draw();
      return;
    }
    try {
      const found = await ask("GET", `search?limit=20&q=${encodeURIComponent(words)}`, { signal });
      if (signal.aborted) return;
      this.sidebar.list.replaceChildren(...found.conversations.map((/** @type {any} */ one) => this.row(one)));
      this.sidebar.say(found.conversations.length ? "" : t("Nothing was found."));
    } catch (error) {
      if (!signal.aborted) this.sidebar.say(/** @type {Error} */ (error).message);
    }
  }

  /** @param {any} found */
  row(found) {
    const { session_id: id, title, title_highlights, snippets } = found;
    const open = (/** @type {number | undefined} */ messageId) => (/** @type {MouseEvent} */ event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      this.onOpen(id, messageId);
    };
    const href = `${config.page}?c=${id}`;
    const name = title ? marked(title, title_highlights) : [t("Untitled chat")];
    return h(
      "li",
      { class: "conversation found-one" },
      h("a", { href, "data-id": id, dir: "auto", onclick: open(snippets[0]?.message_id) }, ...name),
      ...snippets.map((/** @type {any} */ one) =>
        h("a", { class: "snippet", href, dir: "auto", onclick: open(one.message_id) }, ...marked(one.text, one.highlights)),
      ),
    );
  }
}
