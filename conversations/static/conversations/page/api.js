/** Calls of the public API, and how they fail. */

import { config } from "./config.js";
import { t } from "./i18n.js";

/** The server refused: `detail` says why, in the reader's language. */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {Record<string, any>} problem
   */
  constructor(status, problem) {
    // Of fields that are wrong the whole says no more than that; of all else it is what happened, and they what to do.
    const whole = problem.errors && problem.code === "invalid" ? [] : [problem.detail];
    const errors = Object.values(problem.errors ?? {}).flat();
    super([...new Set([...whole, ...errors])].filter(Boolean).join(" ") || t("The server answered with an error ({status}).", { status }));
    this.status = status;
    this.code = problem.code ?? "";
    /** @type {number} Seconds after which another try makes sense; 0 where that is not known. */
    this.retryAfter = Number(problem.retry_after) || 0;
  }
}

/** No answer came: the network or the server is away. */
export class Unreachable extends Error {
  constructor() {
    super(t("The server cannot be reached."));
  }
}

/** @returns {string} The one that counts now: a login in another tab makes a new one. */
export function csrfToken() {
  const start = `${config.csrf.cookie}=`;
  const cookie = document.cookie.split("; ").find((one) => one.startsWith(start));
  return cookie ? cookie.slice(start.length) : config.csrf.token;
}

/**
 * Call the API and return its answer, whatever it holds.
 * @param {string} method
 * @param {string} path Below the API's begin, such as `conversations`.
 * @param {{body?: any, headers?: Record<string, string>, signal?: AbortSignal}} [options] The body: a form, or what
 *   becomes JSON.
 * @returns {Promise<Response>}
 */
export async function call(method, path, { body, headers = {}, signal } = {}) {
  /** @type {Record<string, string>} */
  const sent = { ...headers };
  const isForm = body instanceof FormData; // the browser names its type
  if (body !== undefined && !isForm) sent["Content-Type"] = "application/json";
  if (method !== "GET") sent["X-CSRFToken"] = csrfToken();
  let response;
  try {
    const content = body === undefined || isForm ? body : JSON.stringify(body);
    response = await fetch(config.api + path, { method, headers: sent, body: content, signal });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Unreachable();
  }
  if (response.ok) return response;
  const failure = await failureOf(response);
  if (config.login && failure instanceof ApiError && failure.status === 401) window.dispatchEvent(new Event("chat:login"));
  throw failure;
}

/**
 * @param {Response} response
 * @returns {Promise<Error>}
 */
async function failureOf(response) {
  /** @type {Record<string, any>} */
  let problem = {};
  try {
    problem = await response.json();
  } catch {
    // A proxy's page: the status has to do. One that says that nobody is behind it is no refusal of ours.
    if ([502, 503, 504].includes(response.status)) return new Unreachable();
  }
  problem.retry_after ??= response.headers.get("Retry-After");
  return new ApiError(response.status, problem);
}

/**
 * Call the API and return the JSON of its answer.
 * @param {string} method
 * @param {string} path
 * @param {{body?: any, headers?: Record<string, string>, signal?: AbortSignal}} [options]
 * @returns {Promise<any>}
 */
export async function ask(method, path, options) {
  const response = await call(method, path, options);
  try {
    return response.status === 204 ? null : await response.json();
  } catch (error) {
    if (options?.signal?.aborted) throw error;
    throw new Unreachable();
  }
}

/**
 * Return the path of a page's successor: the server's URL may name it otherwise than this browser does.
 * @param {string} path Of the first page.
 * @param {string | null} next
 * @returns {string | null}
 */
export function nextPage(path, next) {
  return next ? path + new URL(next, location.href).search : null;
}
