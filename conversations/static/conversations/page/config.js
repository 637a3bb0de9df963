/** What the server says of itself in the page: addresses, languages, and every text that is shown. */

/**
 * @typedef {object} Config
 * @property {string} api Where the API's paths begin, with a slash at its end.
 * @property {string} page
 * @property {string} login Empty where nobody has to log in.
 * @property {string} user
 * @property {{cookie: string, token: string}} csrf
 * @property {string} language
 * @property {[string, string][]} languages
 * @property {{name: string, path: string, secure: boolean}} languageCookie
 */

/** @param {string} id */
const block = (id) => JSON.parse(document.getElementById(id)?.textContent || "{}");

/** @type {Config} */
export const config = block("chat-config");
/** @type {Record<string, string>} */
export const texts = block("chat-texts");
