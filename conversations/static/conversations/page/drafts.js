/** What is being written, and how it is to be answered, kept in this browser. It goes with its conversation, and with the login. */

import { forget, keep, keepOwn, putBack, recall, recallOwn } from "./storage.js";

/**
 * A place is a conversation's id or `new`, and for a message that is edited that message's id after it.
 * @param {string} place
 */
const conversationOf = (place) => place.split(".")[0];

/** What went with conversations: those that were deleted may come back. @type {Map<string, import("./storage.js").Kept[]>} */
const gone = new Map();

/**
 * Return what is being written at a place: in this tab, else in another.
 * @param {string} place
 * @returns {string}
 */
export const recallDraft = (place) => recallOwn(`draft.${place}`) ?? recall(`draft.${place}`) ?? "";

/**
 * Keep what is being written: two tabs may write two things at one place, such as a new chat.
 * @param {string} place
 * @param {string} text
 */
export function keepDraft(place, text) {
  keepOwn(`draft.${place}`, text);
  if (!isInTab(conversationOf(place))) keep(`draft.${place}`, text);
}

/**
 * Return the images of what is being written at a place, as `recallDraft` does its text.
 * @param {string} place
 * @returns {import("./images.js").Picture[]}
 */
export function recallDraftPictures(place) {
  const own = recallOwn(`images.${place}`);
  return (own === null ? recall(`images.${place}`) : JSON.parse(own)) ?? [];
}

/**
 * @param {string} place
 * @param {import("./images.js").Picture[]} pictures
 */
export function keepDraftPictures(place, pictures) {
  keepOwn(`images.${place}`, pictures.length ? JSON.stringify(pictures) : "");
  if (!isInTab(conversationOf(place))) keep(`images.${place}`, pictures.length ? pictures : null);
}

/**
 * Return how answers are to be made in a conversation, or in a new one.
 * @param {string} place
 * @returns {{temperature?: number, max_tokens?: number}} Fields of `POST /chat`.
 */
export function recallOptions(place) {
  const own = recallOwn(`options.${place}`);
  return (own === null ? recall(`options.${place}`) : JSON.parse(own)) ?? {};
}

/**
 * @param {string} place
 * @param {{temperature?: number, max_tokens?: number}} set
 */
export function keepOptions(place, set) {
  const isSet = Object.keys(set).length > 0;
  if (isInTab(place)) keepOwn(`options.${place}`, isSet ? JSON.stringify(set) : "");
  else keep(`options.${place}`, isSet ? set : null);
}

/** Keep what is written in a temporary conversation in this tab alone: it goes with the tab. @param {string} id */
export const keepInTab = (id) => keepOwn(`temporary.${id}`, "1");

/** @param {string} id */
export const isInTab = (id) => recallOwn(`temporary.${id}`) !== null;

/** Forget what was kept of a conversation that is gone. @param {string} id */
export function forgetDrafts(id) {
  const forgotten = forget((name) => /^(draft|images|options|unsent)\./.test(name) && name.split(".")[1] === id);
  if (forgotten.length) gone.set(id, forgotten);
}

/** One that was gone is there again. @param {string} id */
export function returnDrafts(id) {
  putBack(gone.get(id) ?? []);
  gone.delete(id);
}

/**
 * Forget all that somebody wrote and did not send, and set.
 * @param {boolean} [isOfTab] In this tab alone.
 */
export function forgetAll(isOfTab = false) {
  gone.clear();
  forget((name) => /^(user$|(draft|images|options|unsent|system)\.)/.test(name), isOfTab);
}

/**
 * What is kept here is this user's: forget what another one left, and what is in this tab when they log out in another.
 * @param {string} user Empty for strangers.
 */
export function belongTo(user) {
  const before = recall("user");
  if (before !== null && before !== user) forgetAll();
  keep("user", user);
  window.addEventListener("storage", ({ key, newValue }) => {
    if (user && key === "chat.user" && newValue !== JSON.stringify(user)) forgetAll(true);
  });
}
