/** The list of conversations: newest first, more while scrolling, and what can be done with each. */

import { ask } from "./api.js";
import { config } from "./config.js";
import { arrange, byId, h, iconButton } from "./dom.js";
import { groupOf, t } from "./i18n.js";
import { firstPage, pageAt } from "./listing.js";
import { openMenu } from "./menu.js";
import { toast } from "./notices.js";
import { titleField } from "./title.js";

const UNDO_SECONDS = 30;

/**
 * @typedef {import("./listing.js").Item} Item
 * @typedef {import("./listing.js").Page} Page
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
    /** What stands in the list, by id. @type {Map<string, HTMLLIElement>} */
    this.rows = new Map();
    /** What the feed told while pages of the list are on their way. @type {Set<any[]>} */
    this.heard = new Set();
    this.loads = 0;
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

  /** Fetch the list again, as far as it is there. */
  async load(wanted = this.items.size) {
    this.loads += 1;
    try {
      await this.takePage(firstPage(this.isArchive, wanted), () => (this.items = new Map()));
    } catch (error) {
      this.say(/** @type {Error} */ (error).message);
    }
  }

  async more() {
    if (!this.next || this.isLoading || this.isHidden) return;
    this.isLoading = true;
    try {
      await this.takePage(pageAt(this.next));
    } catch (error) {
      toast(/** @type {Error} */ (error).message);
    } finally {
      this.isLoading = false;
    }
  }

  /**
   * Take in a page of the list. What the feed told while it was on its way is newer, and taken after it; where the list
   * was asked for anew meanwhile it is left out.
   * @param {Promise<Page>} coming
   * @param {() => void} [before]
   */
  async takePage(coming, before) {
    const load = this.loads;
    /** @type {any[]} */
    const heard = [];
    this.heard.add(heard);
    try {
      const page = await coming;
      if (load !== this.loads) return;
      before?.();
      for (const item of page.conversations) this.items.set(item.session_id, item);
      this.next = page.next;
      this.heard.delete(heard);
      for (const event of heard) this.take(event);
      this.draw();
      // Still in sight after a short page: the watcher tells only of changes.
      this.watcher.unobserve(byId("list-end"));
      this.watcher.observe(byId("list-end"));
    } finally {
      this.heard.delete(heard);
    }
  }

  /** @param {boolean} isArchive */
  showArchive(isArchive) {
    this.isArchive = isArchive;
    this.load(0);
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
    for (const heard of this.heard) heard.push(event);
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
    const row = this.rows.get(id);
    const beside = row?.contains(document.activeElement) ? (row.nextElementSibling ?? row.previousElementSibling) : null;
    if (!this.items.delete(id)) return;
    this.draw();
    beside?.querySelector("a")?.focus();
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
      if (its === group) delete row.dataset.group;
      else row.dataset.group = group = its;
      return row;
    });
    this.rows = new Map(items.map((item, index) => [item.session_id, rows[index]]));
    arrange(this.list, rows);
    this.list.hidden = false;
    this.say(items.length ? "" : this.isArchive ? t("Nothing is archived.") : t("Your conversations will stand here."));
  }

  /**
   * Return the row of a conversation: the one that stands there, so that whoever is at it stays at it.
   * @param {Item} item
   * @returns {HTMLLIElement}
   */
  row(item) {
    const row = this.rows.get(item.session_id) ?? this.newRow(item.session_id);
    const [link, more] = /** @type {any} */ (row.children);
    const title = item.title || t("Untitled chat");
    if (link.textContent !== title) {
      link.textContent = title;
      more.setAttribute("aria-label", t("Actions for {title}", { title }));
    }
    return row;
  }

  /**
   * @param {string} id
   * @returns {HTMLLIElement}
   */
  newRow(id) {
    const link = h("a", {
      href: `${config.page}?c=${id}`,
      "data-id": id,
      "aria-current": id === this.current && "page",
      dir: "auto",
    });
    link.addEventListener("click", (/** @type {MouseEvent} */ event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      this.onOpen(id);
    });
    const more = iconButton("dots", "", () => this.openMenu(id, more), {
      class: "icon-button more",
      "aria-haspopup": "menu",
      "aria-expanded": "false",
      title: t("Actions"),
    });
    return h("li", { class: "conversation" }, link, more);
  }

  /**
   * @param {string} id
   * @param {HTMLElement} button
   */
  openMenu(id, button) {
    const item = this.items.get(id);
    if (!item) return;
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
      this.load();
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
    this.renaming = id;
    this.rows.delete(id); // This one becomes a field.
    const field = titleField(item.title, (title, isByKey) => {
      this.renaming = null;
      const now = this.items.get(id);
      if (title && title !== item.title && now) {
        this.items.set(id, { ...now, title });
        this.change(id, { title });
      }
      this.draw();
      if (isByKey) this.list.querySelector(`a[data-id="${id}"]`)?.focus();
    });
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
    const text = t("“{title}” is deleted.", { title: item.title || t("Untitled chat") });
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
