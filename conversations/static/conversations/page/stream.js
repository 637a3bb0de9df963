/** Server-Sent Events over fetch: each with its id, taken up again where they were cut. */

import { ApiError, ask, call } from "./api.js";

/** A server that lives sends something at least every 15 s. */
const SILENCE = 40_000;
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 10_000;
/** Errors of a stream that concern its reader: the answer goes on without them. */
const ENDED_LOGINS = new Set(["login_required", "invalid_key"]);

/**
 * @typedef {{id: string, data: any}} StreamEvent
 */

/**
 * Yield the events of an answer until its connection ends.
 * @param {Response} response
 * @returns {AsyncGenerator<StreamEvent>}
 */
export async function* eventsOf(response) {
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let silence = 0;
  try {
    for (;;) {
      silence = window.setTimeout(() => reader.cancel().catch(() => {}), SILENCE);
      const { done, value } = await reader.read();
      clearTimeout(silence);
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop() ?? "";
      for (const block of blocks) {
        const event = eventOf(block);
        if (event) yield event;
      }
    }
  } finally {
    clearTimeout(silence);
    reader.cancel().catch(() => {});
  }
}

/**
 * @param {string} block
 * @returns {StreamEvent | null}
 */
function eventOf(block) {
  let id = "";
  let data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("id: ")) id = line.slice(4);
    else if (line.startsWith("data: ")) data += line.slice(6);
  }
  return data ? { id, data: JSON.parse(data) } : null;
}

/**
 * Wait, but no longer than until the network is back.
 * @param {number} milliseconds
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
export function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      window.removeEventListener("online", end);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    window.addEventListener("online", end);
    signal?.addEventListener("abort", end);
  });
}

/** Pauses that become longer, until something works. */
export class Patience {
  constructor() {
    this.next = FIRST_PAUSE;
  }

  reset() {
    this.next = FIRST_PAUSE;
  }

  /**
   * @param {AbortSignal} [signal]
   * @param {number} [least] Milliseconds.
   */
  async wait(signal, least = 0) {
    const time = Math.max(least, this.next * (0.75 + Math.random() / 2));
    this.next = Math.min(this.next * 2, LONGEST_PAUSE);
    await pause(time, signal);
  }
}

/** Whether another try may help: not where the server understood and said no. @param {unknown} error */
export function mayPass(error) {
  return !(error instanceof ApiError) || error.status === 429 || error.status >= 500;
}

/**
 * Read an answer to its end, over as many connections as that takes.
 * @param {object} how
 * @param {string} how.generationId
 * @param {Response} [how.response] A stream of it that is open already.
 * @param {(data: any) => void} how.onEvent
 * @param {(isConnected: boolean) => void} how.onConnection
 * @param {AbortSignal} how.signal
 * @returns {Promise<any>} The event that ended it.
 */
export async function follow({ generationId, response, onEvent, onConnection, signal }) {
  const patience = new Patience();
  let position = "";
  let open = response;
  while (!signal.aborted) {
    try {
      open ??= await attach(generationId, position, signal);
      if (open.status === 204) return await endOf(generationId, signal);
      onConnection(true);
      for await (const { id, data } of eventsOf(open)) {
        patience.reset();
        position = id || position;
        if (data.done) return data;
        if (ENDED_LOGINS.has(data.error?.code)) {
          throw new ApiError(401, { code: data.error.code, detail: data.error.message });
        }
        onEvent(data);
      }
    } catch (error) {
      if (signal.aborted || !mayPass(error)) throw error;
    }
    open = undefined;
    if (signal.aborted) break;
    onConnection(false);
    await patience.wait(signal);
  }
  throw new DOMException("Left", "AbortError");
}

/**
 * @param {string} generationId
 * @param {string} position
 * @param {AbortSignal} signal
 */
function attach(generationId, position, signal) {
  const headers = position ? { "Last-Event-ID": position } : undefined;
  return call("GET", `generations/${generationId}/stream`, { headers, signal });
}

/**
 * @param {string} generationId
 * @param {AbortSignal} signal
 */
async function endOf(generationId, signal) {
  return { done: true, ...(await ask("GET", `generations/${generationId}`, { signal })) };
}
