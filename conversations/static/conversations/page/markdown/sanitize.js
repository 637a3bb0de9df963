/** Everything that was made of a model's words passes here before it is part of the page. */

import DOMPurify from "../../vendor/purify.js";
import { isDataImage, isLink } from "./parser.js";

const INLINE = {
  ALLOWED_TAGS: ["a", "br", "code", "em", "img", "s", "span", "strong"],
  ALLOWED_ATTR: ["alt", "class", "href", "src", "title"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  KEEP_CONTENT: true,
  RETURN_DOM_FRAGMENT: true,
};
const MATHS = {
  USE_PROFILES: { mathMl: true },
  ADD_TAGS: ["semantics"],
  ADD_ATTR: ["class"],
  FORBID_ATTR: ["style", "href", "id"],
  IN_PLACE: true,
};

/**
 * HTML of a line as a fragment.
 * @param {string} html
 * @returns {DocumentFragment}
 */
export function fragmentOf(html) {
  if (!/[<&]/.test(html)) {
    const plain = document.createDocumentFragment();
    plain.append(html);
    return plain;
  }
  const fragment = DOMPurify.sanitize(html, INLINE);
  for (const link of fragment.querySelectorAll("a")) {
    if (!isLink(link.getAttribute("href") ?? "")) {
      link.replaceWith(...link.childNodes);
      continue;
    }
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
  }
  for (const image of fragment.querySelectorAll("img")) {
    if (!isDataImage(image.getAttribute("src") ?? "")) image.replaceWith(image.alt);
  }
  return fragment;
}

/** A tree of MathML, sanitised in its place. */
export const sanitizeMaths = (element) => DOMPurify.sanitize(element, MATHS);
