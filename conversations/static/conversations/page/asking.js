/** What is said, until the server has it: kept in this browser, and sent again under the same key. */

import { ApiError, ask, call, Unreachable } from "./api.js";
import { randomId } from "./dom.js";
import { keepDraft } from "./drafts.js";
import { t } from "./i18n.js";
import { partsWith, picturesIn } from "./images.js";
import { toast } from "./notices.js";
import { keep, recall, thisTab } from "./storage.js";

/** @typedef {import("./message.js").Message} Message */
/** @typedef {import("./images.js").Picture} Picture */
/**
 * A message on its way: its key, the fields of `POST /chat`, and the conversation, which a new one does not have yet;
 * which tab sends it, since when; and what is known of its images.
 * @typedef {{id: string, key: string, body: any, where: string | null, tab: string, since: number,
 *   pictures?: Picture[]}} Unsent
 */

/** Milliseconds after which another tab has not sent its message. */
const GIVEN_UP = 30_000;
/** What this page is sending right now, by id. @type {Set<string>} */
const onTheirWay = new Set();

/** @type {Omit<Message, "id" | "role" | "content" | "status" | "created_at">} */
const BLANK = {
  reasoning: "",
  model: "",
  model_type: "",
  finish_reason: null,
  usage: null,
  generation_id: null,
  feedback: null,
  parent_id: null,
  sibling_ids: [],
};

export class Asking {
  /** @param {import("./conversation.js").Conversation} conversation */
  constructor(conversation) {
    this.of = conversation;
  }

  /**
   * Say something at the end of the branch that is shown.
   * @param {string} text
   * @param {Picture[]} [pictures]
   */
  send(text, pictures) {
    const leaf = this.of.transcript.leaf;
    this.say({ message: text, ...(leaf === null ? {} : { parent_id: leaf }) }, pictures);
  }

  /**
   * Say a message of the user's anew, in other words and with the same images: beside it.
   * @param {Message} message
   * @param {string} text
   */
  edit(message, text) {
    if (this.of.isBusy || this.hasUnsent()) return;
    this.of.transcript.cutFrom(message);
    keepDraft(this.of.draftOf(message), "");
    this.say({ message: text, parent_id: message.parent_id }, picturesIn(message.parts));
  }

  /**
   * @param {Record<string, any>} said
   * @param {Picture[]} [pictures]
   */
  say(said, pictures = []) {
    if (this.of.isBusy || this.hasUnsent(said.message, pictures)) return;
    /** @type {Record<string, any>} */
    const body = { ...said, ...this.of.around.options(), stream: true };
    if (pictures.length) body.attachments = pictures.map(({ id }) => id);
    if (!body.message) delete body.message;
    if (this.of.isTemporary && this.of.id === null) body.temporary = true;
    const where = this.of.id;
    this.post({ id: randomId(), key: randomId(), body, where, tab: thisTab(), since: Date.now(), pictures });
  }

  /**
   * Whether a message that was not sent stands at the end: what comes after it would be said before it.
   * @param {string} [text] Is given back.
   * @param {Picture[]} [pictures] As these are.
   */
  hasUnsent(text = "", pictures = []) {
    if (!this.of.transcript.unsent.length) return false;
    toast(t("Send or discard the message that was not sent first."));
    if (text || pictures.length) this.of.around.giveBack(text, pictures);
    return true;
  }

  /**
   * Send what is kept until the server has it. The same key makes a second try harmless.
   * @param {Unsent} unsent
   */
  async post(unsent) {
    const { signal } = this.of.leaving;
    const view = this.of.transcript.append(asQuestion(unsent));
    this.of.isSending = true;
    onTheirWay.add(unsent.id);
    keepUnsent(unsent);
    this.of.transcript.goToEnd();
    this.of.changed();
    try {
      await this.createIfNeeded(unsent, signal);
      // Not ended by leaving this conversation: it is meant to be said.
      const headers = { "Idempotency-Key": unsent.key, Accept: "text/event-stream" };
      const response = await call("POST", "chat", { body: { ...unsent.body, session_id: unsent.where }, headers });
      forgetUnsent(unsent);
      this.accept(response, signal, unsent.where);
    } catch (error) {
      if (!signal.aborted) {
        this.of.isSending = false;
        this.showRefusal(view, unsent, /** @type {Error} */ (error));
      }
    } finally {
      onTheirWay.delete(unsent.id);
      if (signal.aborted) this.showUnsent(); // of where its reader is now, perhaps back here
    }
  }

  /**
   * A new conversation of which more is known than its first message is made before that.
   * @param {Unsent} unsent
   * @param {AbortSignal} signal
   */
  async createIfNeeded(unsent, signal) {
    const fields = unsent.where === null && this.of.around.creation();
    if (!fields) return;
    const body = { ...fields, ...(unsent.body.temporary && { temporary: true }) };
    const made = await ask("POST", "conversations", { body });
    forgetUnsent(unsent);
    unsent.where = made.session_id;
    delete unsent.body.temporary;
    keepUnsent(unsent);
    if (!signal.aborted) this.adopt(made.session_id);
  }

  /**
   * The server has the message: go on with its answer.
   * @param {Response} response
   * @param {AbortSignal} signal
   * @param {string | null} where The conversation, null for a new one.
   */
  accept(response, signal, where = this.of.id) {
    const id = Number(response.headers.get("X-Message-Id"));
    if (signal.aborted || this.of.transcript.find(id)) {
      response.body?.cancel();
      if (!signal.aborted) this.of.isSending = false;
      // Its reader is back already, or a second try met the first.
      if (where !== null && where === this.of.id) this.of.reload().catch(() => {});
      this.of.changed();
      return;
    }
    const generation = response.headers.get("X-Generation-Id") ?? "";
    if (this.of.id === null) this.adopt(response.headers.get("X-Session-Id") ?? "");
    this.of.isSending = false;
    const view = this.of.transcript.append({ ...asMessage("assistant", ""), status: "running" });
    view.identify(id);
    this.of.answering.attach(view, generation, response);
  }

  /** @param {string} id */
  adopt(id) {
    this.of.id = id;
    this.of.around.begun(id);
  }

  /**
   * @param {any} view
   * @param {Unsent} unsent
   * @param {Error} error
   */
  showRefusal(view, unsent, error) {
    view.unsent = unsent.id;
    const isAway = error instanceof Unreachable;
    if (error instanceof ApiError && error.status < 500 && error.status !== 429) {
      unsent.key = randomId();
      keepUnsent(unsent);
    }
    const discard = () => {
      forgetUnsent(unsent);
      this.of.transcript.drop(view);
      this.of.around.giveBack(unsent.body.message ?? "", unsent.pictures ?? []);
      // What an edit took away is shown again.
      if (this.of.id !== null) this.of.reload().catch(() => {});
      this.of.changed();
    };
    const retry = () => {
      window.removeEventListener("online", retry);
      if (this.of.isBusy || !view.element.isConnected) return;
      this.of.transcript.drop(view);
      this.post({ ...unsent, tab: thisTab(), since: Date.now() });
    };
    if (isAway) window.addEventListener("online", retry);
    const seconds = error instanceof ApiError && error.status === 429 ? error.retryAfter : 0;
    view.fail(error.message, { seconds, retry, discard });
    this.of.changed();
  }

  /** Show what was not sent when the page was left; what is being sent elsewhere, once that has been given up. */
  showUnsent() {
    const { id, transcript } = this.of;
    if (this.of.isAnswering) return;
    for (const unsent of unsentAt(id)) {
      const isShown = transcript.unsent.includes(unsent.id);
      if (isShown || onTheirWay.has(unsent.id)) continue;
      const left = unsent.tab === thisTab() ? 0 : unsent.since + GIVEN_UP - Date.now();
      if (left > 0) setTimeout(() => this.of.id === id && this.showUnsent(), left);
      else if (isThere(unsent, transcript.views)) forgetUnsent(unsent);
      else {
        const view = transcript.append(asQuestion(unsent));
        this.showRefusal(view, unsent, new Error(t("The page was left before the server had it.")));
      }
    }
  }

  /**
   * @param {Message} message
   * @param {string} [modelType]
   */
  async regenerate(message, modelType) {
    if (this.of.isBusy || message.id === null || this.hasUnsent()) return;
    const { signal } = this.of.leaving;
    this.of.isSending = true;
    this.of.changed();
    const body = { ...this.of.around.options(), ...(modelType && { model_type: modelType }), stream: true };
    const headers = { "Idempotency-Key": randomId(), Accept: "text/event-stream" };
    try {
      const response = await call("POST", `messages/${message.id}/regenerate`, { body, headers, signal });
      if (signal.aborted) return;
      this.of.transcript.cutFrom(message);
      this.accept(response, signal);
    } catch (error) {
      if (signal.aborted) return;
      this.of.isSending = false;
      toast(/** @type {Error} */ (error).message);
      this.of.changed();
    }
  }
}

/** @param {string | null} where */
const nameOf = (where) => `unsent.${where ?? "new"}`;

/**
 * @param {string | null} where
 * @returns {Unsent[]}
 */
const unsentAt = (where) => recall(nameOf(where)) ?? [];

/** @param {Unsent} unsent */
const othersThan = (unsent) => unsentAt(unsent.where).filter(({ id }) => id !== unsent.id);

/** @param {Unsent} unsent */
function keepUnsent(unsent) {
  keep(nameOf(unsent.where), [...othersThan(unsent), unsent]);
}

/** @param {Unsent} unsent */
function forgetUnsent(unsent) {
  const others = othersThan(unsent);
  keep(nameOf(unsent.where), others.length ? others : null);
}

/**
 * Whether the server has a message, though nobody heard so: the page was left in between.
 * @param {Unsent} unsent
 * @param {any[]} views
 */
function isThere({ body }, views) {
  return views.some(({ message }) => {
    const { role, id, content, parent_id, parts } = message;
    const shown = picturesIn(parts).map((picture) => picture.id);
    const isChild = body.parent_id === undefined ? parent_id === null : parent_id === body.parent_id;
    const isEqual = content === (body.message ?? "") && String(shown) === String(body.attachments ?? []);
    return role === "user" && id !== null && isChild && isEqual;
  });
}

/**
 * @param {"user" | "assistant"} role
 * @param {string} content
 * @returns {Message}
 */
function asMessage(role, content) {
  return { ...BLANK, id: null, role, content, status: "completed", created_at: new Date().toISOString() };
}

/** @param {Unsent} unsent */
const asQuestion = ({ body, pictures }) => ({ ...asMessage("user", body.message ?? ""), parts: partsWith(pictures ?? []) });
