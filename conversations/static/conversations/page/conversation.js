/** The conversation that is open: its messages, its branches, and the answer that is being made. */

import { Answering } from "./answering.js";
import { ask, nextPage } from "./api.js";
import { Asking } from "./asking.js";
import { isInTab } from "./drafts.js";
import { toast } from "./notices.js";
import { isLoaded } from "./rendering.js";
import { pause } from "./stream.js";
import { Transcript } from "./transcript.js";

const PAGE = 50;
/** How many messages are drawn at once: more would hold up the reader's scrolling. */
const STEP = 6;
/** How many pages are loaded in search of a message before its branch is. */
const FAR = 20;
/** Milliseconds until older messages are asked for again after a failure. */
const AGAIN = 5000;

/** @typedef {import("./message.js").Message} Message */

/**
 * What the page around it does.
 * @typedef {object} Surroundings
 * @property {(conversation: Conversation) => void} changed
 * @property {() => Record<string, any>} options How answers are to be made: fields of `POST /chat`.
 * @property {() => Record<string, any> | null} creation Fields of `POST /conversations`, where a new one needs any.
 * @property {(has: {hasImages: boolean, hasTools: boolean}) => import("./models.js").Choice[]} models
 * @property {(sessionId: string) => void} begun A new conversation got its id.
 * @property {(text: string, pictures: import("./images.js").Picture[]) => void} giveBack What was not sent goes back to
 *   the composer.
 */

export class Conversation {
  /** @param {Surroundings} around */
  constructor(around) {
    this.around = around;
    /** @type {string | null} */
    this.id = null;
    /** @type {any} As `GET /conversations/{id}` told it. */
    this.info = null;
    /** @type {string | null} */
    this.generationId = null;
    this.isSending = false;
    /** Whether what is to be shown is on its way: what is written meanwhile stays in the composer. */
    this.isOpening = false;
    this.isTemporary = false;
    this.leaving = new AbortController();
    /** @type {string | null} */
    this.olderPage = null;
    this.isLoadingOlder = false;
    /** What is shown is loaded by one at a time, so that the last that was asked for stays. @type {Promise<void>} */
    this.loading = Promise.resolve();
    this.asking = new Asking(this);
    this.answering = new Answering(this);
    this.transcript = new Transcript(this.actions(), () => this.loadOlder());
  }

  /** @returns {import("./message.js").Actions} */
  actions() {
    return {
      edit: (message, text) => this.asking.edit(message, text),
      draft: (message) => this.draftOf(message),
      regenerate: (message, modelType) => this.asking.regenerate(message, modelType),
      showBranch: (id) => this.showBranch(id),
      rate: (message, rating) => this.answering.rate(message, rating),
      models: (message) => this.around.models(this.transcript.above(message)),
      isBusy: () => this.isBusy,
    };
  }

  /** Where an edit of a message is kept until it is sent. @param {Message} message */
  draftOf({ id }) {
    return `${this.id}.${id}`;
  }

  get isBusy() {
    return this.isOpening || this.isAnswering;
  }

  get isAnswering() {
    return this.isSending || this.generationId !== null;
  }

  changed() {
    this.around.changed(this);
  }

  /** Leave what is open; its answer goes on at the server. */
  leave() {
    this.leaving.abort();
    this.leaving = new AbortController();
    this.generationId = null;
    this.isSending = this.isOpening = false;
    this.olderPage = null;
    this.isLoadingOlder = false;
  }

  /** Begin a new conversation, which is stored with its first message. */
  startNew() {
    this.leave();
    this.id = this.info = null;
    this.isTemporary = false;
    this.transcript.clear();
    this.asking.showUnsent();
    this.changed();
  }

  /**
   * Open a conversation, and go on with the answer that is being made in it.
   * @param {string} id
   */
  async open(id) {
    this.leave();
    this.id = id;
    this.info = null;
    this.isTemporary = isInTab(id);
    this.transcript.clear();
    await this.opening(() => this.reload());
  }

  /**
   * Say nothing until something else is shown.
   * @param {() => Promise<void>} show
   */
  async opening(show) {
    const { signal } = this.leaving;
    this.isOpening = true;
    this.changed();
    try {
      await show();
    } finally {
      if (!signal.aborted) {
        this.isOpening = false;
        this.changed();
      }
    }
  }

  /** Show what the server has. */
  reload() {
    const { signal } = this.leaving;
    return this.inTurn(() => this.load(signal), signal);
  }

  /**
   * Load after whoever loads now.
   * @param {() => Promise<void>} load
   * @param {AbortSignal} signal
   */
  inTurn(load, signal) {
    const turn = this.loading.then(() => {
      signal.throwIfAborted();
      return load();
    });
    this.loading = turn.catch(() => {}); // Who asked for it is told.
    return turn;
  }

  /** @param {AbortSignal} signal */
  async load(signal) {
    const info = await ask("GET", `conversations/${this.id}`, { signal });
    const page = info.active_leaf === null ? null : await this.page(info.active_leaf, signal);
    await isLoaded; // What is there already is not to be seen in two ways.
    if (signal.aborted || this.isAnswering) return;
    this.info = info;
    const messages = page?.messages ?? [];
    const atOnce = this.transcript.views.length ? messages.length : STEP;
    const isMoreAbove = this.transcript.show(messages.slice(-atOnce));
    if (!isMoreAbove) this.olderPage = nextPage(`conversations/${this.id}/messages`, page?.before ?? null);
    const last = this.transcript.last;
    if (last?.message.status === "running") this.answering.attach(last, last.message.generation_id);
    else this.answering.explainFailure(last, signal);
    this.asking.showUnsent();
    this.changed();
    await this.prepend(messages.slice(0, Math.max(0, messages.length - atOnce)), signal);
  }

  /**
   * Show older messages, few at a time.
   * @param {Message[]} messages
   * @param {AbortSignal} signal
   */
  async prepend(messages, signal) {
    this.isLoadingOlder = true;
    for (let end = messages.length; end > 0 && !signal.aborted; end -= STEP) {
      this.transcript.prepend(messages.slice(Math.max(0, end - STEP), end));
      await new Promise((resolve) => setTimeout(resolve));
    }
    if (!signal.aborted) this.isLoadingOlder = false;
  }

  /**
   * @param {number} leaf
   * @param {AbortSignal} signal
   * @param {number} [limit]
   */
  page(leaf, signal, limit = PAGE) {
    return ask("GET", `conversations/${this.id}/messages?leaf=${leaf}&limit=${limit}`, { signal });
  }

  /** Look again at what the server has, unless an answer is being read: that tells all there is. */
  async refresh() {
    const { signal } = this.leaving;
    await this.inTurn(() => this.look(signal), signal);
  }

  /** @param {AbortSignal} signal */
  async look(signal) {
    if (this.id === null || this.isAnswering) return;
    const info = await ask("GET", `conversations/${this.id}`, { signal });
    if (signal.aborted || this.isAnswering) return;
    const isWhole = this.transcript.last?.message.status !== "running"; // its stream was lost
    const isSame = isWhole && info.active_leaf === this.transcript.leaf && info.generation_id === null;
    this.info = info;
    if (isSame) this.changed();
    else await this.load(signal);
  }

  async loadOlder() {
    if (!this.olderPage || this.isLoadingOlder) return;
    const { signal } = this.leaving;
    const path = this.olderPage;
    this.isLoadingOlder = true;
    try {
      const page = await ask("GET", path, { signal });
      if (signal.aborted || this.olderPage !== path) return;
      this.olderPage = nextPage(`conversations/${this.id}/messages`, page.before);
      await this.prepend(page.messages, signal);
    } catch (error) {
      if (!signal.aborted) toast(/** @type {Error} */ (error).message);
      await pause(AGAIN, signal);
    } finally {
      if (!signal.aborted) this.isLoadingOlder = false;
    }
  }

  /**
   * Show a message to the reader: perhaps one far above, or of another branch.
   * @param {number} id
   */
  async reveal(id) {
    const { signal } = this.leaving;
    for (let pages = 0; pages < FAR && !this.transcript.find(id) && this.olderPage; pages++) {
      const asked = this.olderPage;
      await this.loadOlder();
      if (asked === this.olderPage) return;
    }
    if (signal.aborted) return;
    if (this.transcript.find(id)) this.transcript.reveal(id);
    else await this.showBranch(id);
  }

  /** @param {number} id */
  async showBranch(id) {
    if (this.isBusy) return;
    const { signal } = this.leaving;
    try {
      await this.opening(async () => {
        await ask("PATCH", `conversations/${this.id}`, { body: { active_leaf: id }, signal });
        await this.reload();
      });
      this.transcript.reveal(id);
      this.transcript.focusVersions(id);
    } catch (error) {
      if (!signal.aborted) toast(/** @type {Error} */ (error).message);
    }
  }
}
