/** Answers of the conversation that is open: followed to their end, completed, stopped, rated. */

import { ApiError, ask } from "./api.js";
import { toast } from "./notices.js";
import { follow, mayPass, Patience } from "./stream.js";

/** @typedef {import("./message.js").Message} Message */

export class Answering {
  /** @param {import("./conversation.js").Conversation} conversation */
  constructor(conversation) {
    this.of = conversation;
  }

  /** The history tells that an answer failed; its generation tells why. @param {any} view @param {AbortSignal} signal */
  async explainFailure(view, signal) {
    if (view?.message.status !== "failed") return;
    const state = await ask("GET", `generations/${view.message.generation_id}`, { signal }).catch(() => null);
    if (!state?.error || signal.aborted) return;
    view.error = state.error;
    view.showEnd();
  }

  /**
   * Show an answer as it is made, to its end.
   * @param {any} view
   * @param {string} generationId
   * @param {Response} [response]
   */
  async attach(view, generationId, response) {
    const { signal } = this.of.leaving;
    this.of.generationId = generationId;
    this.of.changed();
    try {
      const onEvent = (/** @type {any} */ data) => view.take(data);
      const onConnection = (/** @type {boolean} */ is) => view.setConnected(is);
      view.finish(await follow({ generationId, response, onEvent, onConnection, signal }));
    } catch (error) {
      if (signal.aborted) return;
      // It goes on at the server; what cannot be had is only its stream.
      view.lose(/** @type {Error} */ (error).message);
      if (error instanceof ApiError && error.status === 401) window.dispatchEvent(new Event("chat:login"));
      return;
    } finally {
      if (!signal.aborted) {
        this.of.generationId = null;
        this.of.asking.showUnsent();
        this.of.changed();
      }
    }
    await this.completed(view, signal);
  }

  /**
   * Complete an answer, however often the network fails.
   * @param {any} view
   * @param {AbortSignal} signal
   */
  async completed(view, signal) {
    const patience = new Patience();
    for (;;) {
      try {
        await this.complete(view, signal);
        return;
      } catch (error) {
        if (signal.aborted || !mayPass(error)) return; // it may have been deleted meanwhile
      }
      await patience.wait(signal);
    }
  }

  /**
   * Fetch what the stream does not tell: ids of the question, those beside it, when it ended.
   * @param {any} view
   * @param {AbortSignal} signal
   */
  async complete(view, signal) {
    const page = await this.of.page(view.message.id, signal, 2);
    if (signal.aborted) return;
    const [question, answer] = page.messages.slice(-2);
    // Its reader may have sent the next one by now: it is no longer the last.
    const before = this.of.transcript.before(view);
    if (answer) view.complete(answer);
    if (before && question && question.role === "user" && before.message.id === null) before.show(question);
    // It was sent late: something else was said meanwhile, and what is shown above is not what the model got.
    const above = before && this.of.transcript.before(before);
    if (above && question && above.message.id !== question.parent_id) await this.of.reload();
    this.of.changed();
  }

  async stop() {
    if (!this.of.generationId) return;
    try {
      await ask("POST", `generations/${this.of.generationId}/stop`);
    } catch (error) {
      toast(/** @type {Error} */ (error).message);
    }
  }

  /**
   * @param {Message} message
   * @param {number} rating 0 takes it back.
   */
  async rate(message, rating) {
    const path = `messages/${message.id}/feedback`;
    try {
      if (rating) await ask("PUT", path, { body: { rating } });
      else await ask("DELETE", path);
      message.feedback = rating ? { rating } : null;
    } catch (error) {
      toast(/** @type {Error} */ (error).message);
    }
  }
}
