/** Images of messages: where they are, how they are shown, and what stands there where one is gone. */

import { ApiError, call } from "./api.js";
import { config } from "./config.js";
import { h } from "./dom.js";
import { t } from "./i18n.js";

/**
 * An image that the server has. What is not known of it is left out.
 * @typedef {{id: string, name?: string, width?: number, height?: number}} Picture
 */

/** @param {Picture} picture */
export const pathOf = ({ id }) => `attachments/${encodeURIComponent(id)}`;

/** @param {Picture} picture */
export const addressOf = (picture) => config.api + pathOf(picture);

/**
 * Return the images of a message as the history has it.
 * @param {any[] | null | undefined} parts
 * @returns {Picture[]}
 */
export function picturesIn(parts) {
  return (parts ?? []).filter((part) => part.type === "image").map(({ attachment_id: id, width, height }) => ({ id, width, height }));
}

/**
 * Return the parts of a message with these images above its text.
 * @param {Picture[]} pictures
 * @returns {any[] | null}
 */
export function partsWith(pictures) {
  return pictures.length ? pictures.map(({ id, width, height }) => ({ type: "image", attachment_id: id, width, height })) : null;
}

/**
 * Return an image; `lost` is called where it cannot be shown, with whether it is gone for good.
 * @param {Picture} picture
 * @param {string} alt
 * @param {(isGone: boolean) => void} lost
 * @param {Record<string, any>} [attributes]
 * @returns {HTMLImageElement}
 */
export function imageOf(picture, alt, lost, attributes = {}) {
  const { width, height } = picture;
  const onerror = async () => lost(await isGone(picture));
  return h("img", { src: addressOf(picture), alt, width, height, draggable: "false", decoding: "async", onerror, ...attributes });
}

/**
 * Whether the server says that there is no such image: an element that shows none does not tell why.
 * @param {Picture} picture
 */
async function isGone(picture) {
  try {
    (await call("GET", pathOf(picture))).body?.cancel();
    return false;
  } catch (error) {
    return error instanceof ApiError && error.status === 404;
  }
}

/**
 * Return the images of a message, each a link to itself, or null where it has none.
 * @param {Picture[]} pictures
 * @returns {HTMLElement | null}
 */
export function gallery(pictures) {
  if (!pictures.length) return null;
  const items = pictures.map((picture, index) => h("li", {}, shown(picture, t("Image {n}", { n: index + 1 }))));
  return h("ul", { class: pictures.length > 1 ? "gallery several" : "gallery", "aria-label": t("Images") }, ...items);
}

/**
 * @param {Picture} picture
 * @param {string} alt
 * @returns {HTMLElement}
 */
function shown(picture, alt) {
  const lost = (/** @type {boolean} */ isGoneForGood) => link.replaceWith(isGoneForGood ? gone() : unloaded(picture, alt));
  const onload = () => image.classList.add("loaded");
  const image = imageOf(picture, alt, lost, { loading: "lazy", onload });
  if (picture.width && picture.height) {
    image.classList.add("sized");
    image.style.setProperty("--width", `${picture.width}px`);
    image.style.setProperty("--ratio", String(picture.width / picture.height));
  }
  const title = t("Open the image in a new tab");
  const link = h("a", { href: addressOf(picture), target: "_blank", rel: "noopener", title, draggable: "false" }, image);
  return link;
}

const gone = () => h("span", { class: "no-image" }, t("This image is not there any more."));

/**
 * Return what stands for an image until its reader asks for it again.
 * @param {Picture} picture
 * @param {string} alt
 */
function unloaded(picture, alt) {
  const again = () => note.replaceWith(shown(picture, alt));
  const button = h("button", { type: "button", class: "button", onclick: again }, t("Load the image"));
  const note = h("span", { class: "no-image" }, t("The image could not be loaded."), button);
  return note;
}
