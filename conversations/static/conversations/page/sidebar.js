/** The list of conversations: newest first, more while scrolling, and what can be done with each. */

import { ask, nextPage } from "./api.js";
import { config } from "./config.js";
import { byId, h, iconButton } from "./dom.js";
import { groupOf, t } from "./i18n.js";
import { openMenu } from "./menu.js";
import { toast } from "./notices.js";

const PAGE = 40;
const UNDO_SECONDS = 30;
const FIRST = `conversations?limit=${PAGE}`;
const PINNED = "conversations?limit=100&pinned=true";

/**
 * @typedef {{session_id: string, title: string, updated_at: string, is_pinned?: boolean, is_archived?: boolean}} Item
 */

export class Sidebar {
  /**
   * @param {{open: (id: string) => void, gone: (id: string) => void}} does
   */
  constructor({ open, gone }) {
    this.list = byId("conversations");
    this.note = byId("list-note");
    this.onOpen = open;
    this.onGone = gone;
    /** @type {Map<string, Item>} */
    this.items = new Map();
    /** @type {string | null} */
    this.next = null;
    /** @type {string | null} */
    this.current = null;
    /** @type {string | null} */
    this.renaming = null;
    this.isArchive = false;
    this.isLoading = false;
    this.isHidden = false;
    const nearEnd = { root: byId("sidebar-scroll"), rootMargin: "300px" };
    this.watcher = new IntersectionObserver(([entry]) => entry.isIntersecting && this.more(), nearEnd);
    this.watcher.observe(byId("list-end"));
  }

  /** Fetch the begin of the list again. */
  async load() {
    try {
      const path = this.isArchive ? `${FIRST}&archived=true` : FIRST;
      // Those that are pinned stand first, however long ago they were used.
      const pinned = this.isArchive ? null : ask("GET", PINNED);
      const page = await ask("GET", path);
      const items = [...((await pinned)?.conversations ?? []), ...page.conversations];
      this.items = new Map(items.map((/** @type {Item} */ item) => [item.session_id, item]));
      this.next = nextPage("conversations", page.next);
      this.draw();
    } catch (error) {
      this.say(/** @type {Error} */ (error).message);
    }
  }

  async more() {
    if (!this.next || this.isLoading || this.isHidden) return;
    this.isLoading = true;
    try {
      const page = await ask("GET", this.next);
      for (const item of page.conversations) this.items.set(item.session_id, item);
      this.next = nextPage("conversations", page.next);
      this.draw();
      // Still in sight after a short page: the watcher tells only of changes.
      this.watcher.unobserve(byId("list-end"));
      this.watcher.observe(byId("list-end"));
    } catch (error) {
      toast(/** @type {Error} */ (error).message);
    } finally {
      this.isLoading = false;
    }
  }

  /** @param {boolean} isArchive */
  showArchive(isArchive) {
    this.isArchive = isArchive;
    this.load();
  }

  /** @param {string | null} id */
  setCurrent(id) {
    this.current = id;
    for (const link of this.list.querySelectorAll("a")) {
      if (link.dataset.id === id) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }

  /**
   * Take in what the feed tells.
   * @param {any} event
   */
  take(event) {
    const { change, session_id, conversation } = event;
    if (change === "deleted" || !conversation) this.remove(session_id);
    else if (conversation.is_archived === this.isArchive) this.put(conversation);
    else this.remove(session_id);
  }

  /** @param {Item} item */
  put(item) {
    this.items.set(item.session_id, { ...this.items.get(item.session_id), ...item });
    this.draw();
  }

  /** @param {string} id */
  remove(id) {
    if (this.items.delete(id)) this.draw();
  }

  /** @param {string} text */
  say(text) {
    this.note.textContent = text;
    this.note.hidden = !text;
  }

  draw() {
    if (this.isHidden || this.renaming) return;
    const items = [...this.items.values()].sort(byPinAndTime);
    let group = "";
    const rows = items.map((item) => {
      const its = this.isArchive ? t("Archived") : item.is_pinned ? t("Pinned") : groupOf(item.updated_at);
      const row = this.row(item);
      if (its !== group) row.dataset.group = group = its;
      return row;
    });
    const focused = document.activeElement?.getAttribute("data-id");
    this.list.replaceChildren(...rows);
    this.list.hidden = false;
    if (focused) this.list.querySelector(`a[data-id="${focused}"]`)?.focus();
    this.say(items.length ? "" : this.isArchive ? t("Nothing is archived.") : t("Your conversations will stand here."));
  }

  /** @param {Item} item */
  row(item) {
    const title = item.title || t("New chat");
    const { session_id: id } = item;
    const link = h(
      "a",
      { href: `${config.page}?c=${id}`, "data-id": id, "aria-current": id === this.current && "page", dir: "auto" },
      title,
    );
    link.addEventListener("click", (/** @type {MouseEvent} */ event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      this.onOpen(id);
    });
    const more = iconButton("dots", t("Actions for {title}", { title }), () => this.openMenu(item, more), {
      class: "icon-button more",
      "aria-haspopup": "menu",
      "aria-expanded": "false",
      title: t("Actions"),
    });
    return h("li", { class: "conversation" }, link, more);
  }

  /**
   * @param {Item} item
   * @param {HTMLElement} button
   */
  openMenu(item, button) {
    const id = item.session_id;
    openMenu(button, [
      { label: t("Rename"), icon: "pencil", run: () => this.rename(item, button) },
      {
        label: item.is_pinned ? t("Unpin") : t("Pin"),
        icon: "pin",
        run: () => this.change(id, { is_pinned: !item.is_pinned }),
      },
      {
        label: this.isArchive ? t("Bring back") : t("Archive"),
        icon: "archive",
        run: () => this.change(id, { is_archived: !this.isArchive }),
      },
      { label: t("Delete"), icon: "trash", danger: true, run: () => this.delete(item) },
    ]);
  }

  /**
   * @param {string} id
   * @param {Record<string, any>} changes
   */
  async change(id, changes) {
    try {
      this.take({ session_id: id, conversation: await ask("PATCH", `conversations/${id}`, { body: changes }) });
    } catch (error) {
      toast(/** @type {Error} */ (error).message);
    }
  }

  /**
   * @param {Item} item
   * @param {HTMLElement} button
   */
  rename(item, button) {
    const row = button.closest("li");
    if (!row) return;
    const id = item.session_id;
    const field = h("input", { class: "rename", "aria-label": t("Title"), maxlength: 200 });
    field.value = item.title;
    this.renaming = id;
    const leave = (/** @type {boolean} */ isMeant) => {
      if (this.renaming !== id) return;
      this.renaming = null;
      const title = field.value.trim();
      if (isMeant && title && title !== item.title) {
        this.items.set(id, { ...item, title });
        this.change(id, { title });
      }
      this.draw();
      this.list.querySelector(`a[data-id="${id}"]`)?.focus();
    };
    field.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      if (event.isComposing) return;
      if (event.key === "Enter") leave(true);
      if (event.key === "Escape") leave(false);
      event.stopPropagation();
    });
    field.addEventListener("blur", () => leave(true));
    row.replaceChildren(field);
    field.focus();
    field.select();
  }

  /** @param {Item} item */
  async delete(item) {
    const id = item.session_id;
    try {
      await ask("DELETE", `conversations/${id}?undo=${UNDO_SECONDS}`);
    } catch (error) {
      toast(/** @type {Error} */ (error).message);
      return;
    }
    this.remove(id);
    this.onGone(id);
    const stay = (UNDO_SECONDS - 5) * 1000;
    const text = t("“{title}” is deleted.", { title: item.title || t("New chat") });
    toast(text, { label: t("Undo"), run: () => this.restore(id), stay });
  }

  /** @param {string} id */
  async restore(id) {
    try {
      await ask("POST", `conversations/${id}/restore`);
      await this.load();
    } catch (error) {
      toast(/** @type {Error} */ (error).message);
    }
  }
}

/**
 * @param {Item} one
 * @param {Item} other
 */
function byPinAndTime(one, other) {
  const pins = Number(other.is_pinned ?? false) - Number(one.is_pinned ?? false);
  return pins || other.updated_at.localeCompare(one.updated_at);
}
