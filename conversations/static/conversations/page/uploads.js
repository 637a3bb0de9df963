/** Images on their way to the server: a few at a time, each with what became of it. */

import { ApiError, ask, Unreachable } from "./api.js";
import { t } from "./i18n.js";
import { pathOf } from "./images.js";

/** How many are sent at once: the browser has six connections, and answers need some. */
const AT_ONCE = 3;
/** Pixels of a preview's shorter side: sharp on every screen, and no burden where the file is large. */
const PREVIEW = 320;

/** @typedef {import("./images.js").Picture} Picture */

/** One image of a message that is being written. */
export class Upload {
  /**
   * @param {{file?: File, picture?: Picture}} of A file to be sent, or an image that the server has.
   * @param {(upload: Upload) => void} changed
   */
  constructor({ file, picture }, changed) {
    this.file = file;
    /** @type {Picture | null} Once the server has it. */
    this.picture = picture ?? null;
    this.name = file?.name ?? picture?.name ?? "";
    /** @type {Error | null} */
    this.error = null;
    this.changed = changed;
    this.leaving = new AbortController();
    /** @type {HTMLCanvasElement | null} */
    this.preview = null;
  }

  get isOnItsWay() {
    return this.picture === null && this.error === null;
  }

  /** Whether another try may succeed: what the server will not have it refuses again. */
  get mayRetry() {
    if (!(this.error instanceof ApiError)) return true;
    return this.error.code === "attachment_quota" || ![400, 413, 415].includes(this.error.status);
  }

  get isUnreachable() {
    return this.error instanceof Unreachable;
  }

  async send() {
    if (!this.file) return;
    const { signal } = this.leaving;
    this.error = null;
    this.changed(this);
    try {
      const { file } = this;
      const { id, width, height } = await inTurn(() => post(file, signal), signal);
      this.picture = { id, name: this.name, width, height };
      if (signal.aborted) return discard(this.picture);
    } catch (error) {
      if (signal.aborted) return;
      this.error = /** @type {Error} */ (error);
      if (error instanceof ApiError && error.code === "body_too_large") error.message = t("The file is too large.");
    }
    this.changed(this);
  }

  /** Have the image drawn, small: the page's policy allows no address of a file. */
  async draw() {
    if (!this.file || this.leaving.signal.aborted) return;
    try {
      const bitmap = await createImageBitmap(this.file, { resizeWidth: PREVIEW, resizeQuality: "medium" });
      this.preview = squareOf(bitmap);
      bitmap.close();
      this.changed(this);
    } catch {
      // It is no image, or none that this browser knows: the server says what it is.
    }
  }

  /** It is not wanted any more, here or at the server. */
  remove() {
    this.leaving.abort();
    if (this.picture) discard(this.picture);
  }
}

/** @param {File} file @param {AbortSignal} signal */
function post(file, signal) {
  const body = new FormData();
  body.append("file", file);
  return ask("POST", "attachments", { body, signal });
}

/** One that a message has stays, and one that is not deleted now the server deletes after a day. @param {Picture} picture */
const discard = (picture) => void ask("DELETE", pathOf(picture)).catch(() => {});

let running = 0;
/** @type {(() => void)[]} */
const waiting = [];

/**
 * @template T
 * @param {() => Promise<T>} work
 * @param {AbortSignal} signal
 * @returns {Promise<T>}
 */
async function inTurn(work, signal) {
  while (running >= AT_ONCE) await new Promise((resolve) => waiting.push(() => resolve(undefined)));
  running++;
  try {
    signal.throwIfAborted();
    return await work();
  } finally {
    running--;
    waiting.shift()?.();
  }
}

/**
 * Return the middle of an image as a square.
 * @param {ImageBitmap} bitmap
 * @returns {HTMLCanvasElement}
 */
function squareOf(bitmap) {
  const canvas = document.createElement("canvas");
  const side = Math.min(bitmap.width, bitmap.height);
  canvas.width = canvas.height = Math.min(side, PREVIEW);
  const left = (bitmap.width - side) / 2;
  const top = (bitmap.height - side) / 2;
  canvas.getContext("2d")?.drawImage(bitmap, left, top, side, side, 0, 0, canvas.width, canvas.height);
  return canvas;
}
