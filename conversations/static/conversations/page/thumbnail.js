/** An image of a message that is being written, small: on its way, there, or refused. */

import { h, iconButton } from "./dom.js";
import { t } from "./i18n.js";
import { icon } from "./icons.js";
import { addressOf, imageOf } from "./images.js";
import { countDown } from "./message.js";

/** @typedef {import("./uploads.js").Upload} Upload */

export class Thumbnail {
  /**
   * @param {Upload} upload
   * @param {{remove: (upload: Upload) => void, gone: (upload: Upload) => void}} does
   */
  constructor(upload, { remove, gone }) {
    this.upload = upload;
    this.onGone = gone;
    this.isLost = false;
    this.place = h("div", { class: "thumbnail-picture" });
    this.spinner = h("span", { class: "spinner", role: "img", "aria-label": t("Uploading…") });
    this.trouble = h("div", { class: "thumbnail-trouble" });
    const label = t("Remove {name}", { name: this.name });
    this.button = iconButton("close", label, () => remove(upload), { class: "icon-button thumbnail-remove" });
    this.element = h("li", { class: "thumbnail", title: this.name }, this.place, this.spinner, this.trouble, this.button);
    this.show();
  }

  get name() {
    return this.upload.name || t("image");
  }

  /** Show what has become of it. */
  show() {
    const { error, isOnItsWay } = this.upload;
    this.spinner.hidden = !isOnItsWay;
    this.element.classList.toggle("failed", error !== null);
    this.trouble.hidden = error === null;
    if (error) this.showTrouble(error);
    else this.trouble.replaceChildren();
    const picture = this.picture();
    if (picture !== this.place.firstChild) this.place.replaceChildren(picture);
  }

  /** @returns {Node} The same one where it is shown already. */
  picture() {
    const { preview, picture } = this.upload;
    const shown = this.place.firstChild;
    if (preview) {
      if (shown !== preview) {
        preview.setAttribute("role", "img");
        preview.setAttribute("aria-label", this.name);
      }
      return preview;
    }
    if (!picture || this.isLost) return shown instanceof SVGElement ? shown : icon("image");
    if (shown instanceof HTMLImageElement && shown.getAttribute("src") === addressOf(picture)) return shown;
    return imageOf({ id: picture.id }, this.name, (isGone) => this.lose(isGone));
  }

  /** The image of a draft cannot be shown. @param {boolean} isGone For good. */
  lose(isGone) {
    this.isLost = true;
    if (isGone) this.onGone(this.upload);
    else this.show();
  }

  /** @param {Error & {retryAfter?: number}} error */
  showTrouble(error) {
    const wait = h("span", { class: "wait" });
    const again = h("button", { type: "button", class: "button", onclick: () => this.upload.send() }, t("Retry"));
    const name = h("strong", {}, this.name);
    this.trouble.replaceChildren(name, h("span", {}, error.message), ...(this.upload.mayRetry ? [wait, again] : []));
    countDown(wait, error.retryAfter ?? 0, again);
  }
}
