/** The images of the message that is being written. Each conversation has its own, as it has its own draft. */

import { arrange, byId } from "./dom.js";
import { keepDraftPictures, recallDraftPictures } from "./drafts.js";
import { t } from "./i18n.js";
import { announce, toast } from "./notices.js";
import { Thumbnail } from "./thumbnail.js";
import { Upload } from "./uploads.js";

/** The most that the API takes in one message. */
const MOST = 10;

/** @typedef {import("./images.js").Picture} Picture */

export class Tray {
  /** @param {{changed: () => void, focus: () => void}} does */
  constructor({ changed, focus }) {
    this.list = byId("images");
    this.note = byId("images-note");
    this.button = byId("add-images");
    /** @type {HTMLInputElement} */
    this.input = byId("choose-images");
    this.onChange = changed;
    this.onFocus = focus;
    this.where = "new";
    /** Those of each place, while the page is open. @type {Map<string, Upload[]>} */
    this.places = new Map();
    /** @type {Map<Upload, Thumbnail>} */
    this.thumbnails = new Map();
    /** Whether the model may take images. */
    this.isWelcome = true;
    /** Previews are made one after the other: an image needs much memory for that. @type {Promise<void>} */
    this.drawing = Promise.resolve();
    this.button.addEventListener("click", () => this.input.click());
    this.input.addEventListener("change", () => this.choose());
    window.addEventListener("online", () => this.retry());
  }

  /** @returns {Upload[]} Of the place that is shown. */
  get uploads() {
    return this.places.get(this.where) ?? [];
  }

  get isEmpty() {
    return this.uploads.length === 0;
  }

  get isOnItsWay() {
    return this.uploads.some((upload) => upload.isOnItsWay);
  }

  /** Say why a message with these images cannot be sent. @returns {string} Empty where it can. */
  get obstacle() {
    if (!this.isEmpty && !this.isWelcome) return t("This model takes no images. Remove them, or choose another model.");
    return this.uploads.some((upload) => upload.error) ? t("Remove what was not added.") : "";
  }

  choose() {
    this.add([...(this.input.files ?? [])]);
    this.input.value = ""; // the same file may be chosen again
    this.onFocus();
  }

  /** @param {File[]} files */
  add(files) {
    if (!files.length) return;
    if (!this.isWelcome) return toast(t("This model takes no images."));
    const taken = files.slice(0, MOST - this.uploads.filter(({ error }) => !error).length);
    if (taken.length < files.length) toast(t("A message has at most {n} images.", { n: MOST }));
    if (!taken.length) return;
    const added = taken.map((file) => new Upload({ file }, (upload) => this.take(upload)));
    this.set([...this.uploads, ...added]);
    const name = taken[0].name;
    announce(taken.length > 1 ? t("{n} images added.", { n: taken.length }) : t("{name} added.", { name }));
    for (const upload of added) {
      this.drawing = this.drawing.then(() => upload.draw());
      upload.send();
    }
  }

  /** Take in what became of an image, wherever its reader is now. @param {Upload} upload */
  take(upload) {
    const found = [...this.places].find(([, uploads]) => uploads.includes(upload));
    if (!found) return;
    const [place, uploads] = found;
    keepPictures(place, uploads);
    this.thumbnails.get(upload)?.show();
    if (upload.error) announce(t("{name} was not added: {reason}", { name: upload.name, reason: upload.error.message }));
    if (place === this.where) this.changed();
  }

  /** @param {Upload} upload */
  remove(upload) {
    upload.remove();
    const at = this.uploads.indexOf(upload);
    this.set(this.uploads.filter((other) => other !== upload));
    announce(t("{name} removed.", { name: upload.name || t("image") }));
    const next = this.uploads[at] ?? this.uploads.at(-1);
    const button = next && this.thumbnails.get(next)?.button;
    if (button) button.focus();
    else this.onFocus();
  }

  /** One of a draft is not at the server any more. @param {Upload} upload */
  drop(upload) {
    if (!this.uploads.includes(upload)) return;
    this.set(this.uploads.filter((other) => other !== upload));
    toast(t("An image of this draft is not there any more."));
  }

  retry() {
    for (const uploads of this.places.values()) for (const upload of uploads) if (upload.isUnreachable) upload.send();
  }

  /** @returns {Picture[]} The images for the message that is sent now; they are gone from here. */
  handOver() {
    const pictures = this.uploads.flatMap(({ picture }) => picture ?? []);
    this.set([]);
    return pictures;
  }

  /** @param {Picture[]} pictures */
  giveBack(pictures) {
    this.set(this.restored(pictures));
  }

  /** @param {string} where */
  moveTo(where) {
    this.where = where;
    this.set(this.places.get(where) ?? this.restored(recallDraftPictures(where)));
  }

  /** A new conversation got its id: what is here belongs there. @param {string} id */
  rename(id) {
    const { uploads } = this;
    this.places.delete(this.where);
    keepPictures(this.where, []);
    this.where = id;
    this.set(uploads);
  }

  /** A conversation is gone. @param {string} id */
  forget(id) {
    if (id !== this.where) this.places.delete(id);
  }

  /** @param {Picture[]} pictures */
  restored(pictures) {
    return pictures.map((picture) => new Upload({ picture }, (upload) => this.take(upload)));
  }

  /** @param {boolean} isWelcome Whether the model that answers may take images. */
  welcome(isWelcome) {
    if (isWelcome === this.isWelcome) return;
    this.isWelcome = isWelcome;
    this.changed();
  }

  /** Have these images, and no others, in the message. @param {Upload[]} uploads */
  set(uploads) {
    for (const upload of this.uploads) if (!uploads.includes(upload)) this.thumbnails.delete(upload);
    this.places.set(this.where, uploads);
    keepPictures(this.where, uploads);
    const does = { remove: this.remove.bind(this), gone: this.drop.bind(this) };
    for (const upload of uploads) {
      if (!this.thumbnails.has(upload)) this.thumbnails.set(upload, new Thumbnail(upload, does));
    }
    arrange(this.list, uploads.flatMap((upload) => this.thumbnails.get(upload)?.element ?? []));
    this.changed();
  }

  changed() {
    this.button.hidden = !this.isWelcome;
    this.button.disabled = this.uploads.length >= MOST;
    this.list.hidden = this.isEmpty;
    this.onChange();
  }

  /** @param {boolean} isWaiting Whether the message goes as soon as its images are there. */
  explain(isWaiting) {
    const refusal = this.isWelcome ? "" : this.obstacle;
    const text = isWaiting ? t("The message is sent once its images are there.") : refusal;
    if (text && text !== this.note.textContent) announce(text);
    this.note.textContent = text;
    this.note.hidden = !text;
  }
}

/**
 * @param {string} place
 * @param {Upload[]} uploads
 */
function keepPictures(place, uploads) {
  keepDraftPictures(place, uploads.flatMap(({ picture }) => picture ?? []));
}
