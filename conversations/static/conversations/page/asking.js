/** What is said, until the server has it: kept in this browser, and sent again under the same key. */

import { ApiError, ask, call, Unreachable } from "./api.js";
import { randomId } from "./dom.js";
import { t } from "./i18n.js";
import { toast } from "./notices.js";
import { keep, recall } from "./storage.js";

/** @typedef {import("./message.js").Message} Message */
/**
 * A message on its way: its key, the fields of `POST /chat`, and the conversation, which a new one does not have yet.
 * @typedef {{key: string, body: any, where: string | null}} Unsent
 */

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
   */
  send(text) {
    const leaf = this.of.transcript.leaf;
    this.say({ message: text, ...(leaf === null ? {} : { parent_id: leaf }) });
  }

  /**
   * Say a message of the user's anew, in other words: beside it.
   * @param {Message} message
   * @param {string} text
   */
  edit(message, text) {
    if (this.of.isBusy) return;
    this.of.transcript.cutFrom(message);
    this.say({ message: text, parent_id: message.parent_id });
  }

  /**
   * @param {Record<string, any>} said
   */
  say(said) {
    if (this.of.isBusy) return;
    /** @type {Record<string, any>} */
    const body = { ...said, ...this.of.around.options(), stream: true };
    if (this.of.isTemporary && this.of.id === null) body.temporary = true;
    this.post({ key: randomId(), body, where: this.of.id });
  }

  /**
   * Send what is kept until the server has it. The same key makes a second try harmless.
   * @param {Unsent} unsent
   */
  async post(unsent) {
    const { signal } = this.of.leaving;
    const view = this.of.transcript.append(asMessage("user", unsent.body.message));
    this.of.isSending = true;
    keepUnsent(unsent);
    this.of.transcript.goToEnd();
    this.of.changed();
    try {
      await this.createIfNeeded(unsent, signal);
      // Not ended by leaving this conversation: it is meant to be said.
      const headers = { "Idempotency-Key": unsent.key, Accept: "text/event-stream" };
      const response = await call("POST", "chat", { body: { ...unsent.body, session_id: unsent.where }, headers });
      forgetUnsent(unsent);
      this.accept(response, signal);
    } catch (error) {
      if (!signal.aborted) this.showRefusal(view, unsent, /** @type {Error} */ (error));
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
   */
  accept(response, signal) {
    if (signal.aborted) {
      response.body?.cancel();
      return;
    }
    const generation = response.headers.get("X-Generation-Id") ?? "";
    if (this.of.id === null) this.adopt(response.headers.get("X-Session-Id") ?? "");
    this.of.isSending = false;
    const view = this.of.transcript.append({ ...asMessage("assistant", ""), status: "running" });
    view.identify(Number(response.headers.get("X-Message-Id")));
    this.of.attach(view, generation, response);
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
    this.of.isSending = false;
    const isAway = error instanceof Unreachable;
    if (error instanceof ApiError && error.status < 500 && error.status !== 429) unsent.key = randomId();
    const discard = () => {
      forgetUnsent(unsent);
      this.of.transcript.cutFrom(view.message);
      this.of.around.giveBack(unsent.body.message);
      // What an edit took away is shown again.
      if (this.of.id !== null) this.of.reload().catch(() => {});
      this.of.changed();
    };
    const retry = () => {
      window.removeEventListener("online", retry);
      if (this.of.isBusy || !view.element.isConnected) return;
      this.of.transcript.cutFrom(view.message);
      this.post(unsent);
    };
    if (isAway) window.addEventListener("online", retry);
    const seconds = error instanceof ApiError && error.status === 429 ? error.retryAfter : 0;
    view.fail(error.message, { seconds, retry, discard });
    this.of.changed();
  }

  /** Show what was not sent when the page was left. */
  showUnsent() {
    const unsent = recall(`unsent.${this.of.id ?? "new"}`);
    if (!unsent) return;
    const view = this.of.transcript.append(asMessage("user", unsent.body.message));
    this.showRefusal(view, unsent, new Error(t("The page was left before the server had it.")));
  }

  /**
   * @param {Message} message
   * @param {string} [modelType]
   */
  async regenerate(message, modelType) {
    if (this.of.isBusy || message.id === null) return;
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

/** @param {Unsent} unsent */
function keepUnsent(unsent) {
  keep(`unsent.${unsent.where ?? "new"}`, unsent);
}

/** @param {Unsent} unsent */
function forgetUnsent(unsent) {
  keep(`unsent.${unsent.where ?? "new"}`, null);
}

/**
 * @param {"user" | "assistant"} role
 * @param {string} content
 * @returns {Message}
 */
function asMessage(role, content) {
  return { ...BLANK, id: null, role, content, status: "completed", created_at: new Date().toISOString() };
}
