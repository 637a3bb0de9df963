/** The reader's API keys: made, shown once, revoked. */

import { ask } from "./api.js";
import { h } from "./dom.js";
import { formatMoment, t } from "./i18n.js";
import { copyButton } from "./message.js";

/** Days after which a new key ends; 0 is never. */
const LIVES = [30, 90, 365, 0];

/** @typedef {{id: number, name: string, hint: string, last_used_at: string | null, expires_at: string | null}} ApiKey */

/** @returns {HTMLElement} A section that fills itself. */
export function apiKeysSection() {
  const list = h("ul", { class: "api-keys", "aria-label": t("API keys") });
  const status = h("p", { class: "status", role: "status" });
  const fresh = h("div", { class: "fresh-key", hidden: true });
  const tell = (/** @type {Error} */ error) => {
    status.textContent = error.message;
    status.className = "status bad";
  };
  const show = async () => {
    const { keys } = await ask("GET", "api/keys");
    list.replaceChildren(...keys.map((/** @type {ApiKey} */ key) => row(key, show, tell)));
    status.textContent = keys.length ? "" : t("No keys yet.");
    status.className = "status";
  };
  show().catch(tell);
  const made = async (/** @type {ApiKey & {key: string}} */ key) => {
    showOnce(fresh, key.key);
    await show();
  };
  return h(
    "section",
    { class: "settings-section" },
    h("h3", {}, t("API keys")),
    h("p", { class: "hint" }, t("With a key a program calls the API as you. Whoever has it can, too.")),
    list,
    status,
    form(made, tell),
    fresh,
  );
}

/**
 * @param {ApiKey} key
 * @param {() => Promise<void>} show
 * @param {(error: Error) => void} tell
 */
function row(key, show, tell) {
  const revoke = async () => {
    button.disabled = true;
    try {
      await ask("DELETE", `api/keys/${key.id}`);
      await show();
    } catch (error) {
      button.disabled = false;
      tell(/** @type {Error} */ (error));
    }
  };
  const label = t("Revoke the key {name}", { name: key.name });
  const button = h("button", { type: "button", class: "button", "aria-label": label, onclick: revoke }, t("Revoke"));
  const used = key.last_used_at ? t("used {moment}", { moment: formatMoment(key.last_used_at) }) : t("not used yet");
  const ends = key.expires_at ? t("ends {moment}", { moment: formatMoment(key.expires_at) }) : t("never ends");
  const about = h("span", { class: "about-key" }, h("code", {}, `${key.hint}…`), ` · ${used} · ${ends}`);
  return h("li", {}, h("span", { class: "key-name" }, h("strong", { dir: "auto" }, key.name), about), button);
}

/**
 * @param {(key: ApiKey & {key: string}) => Promise<void>} made
 * @param {(error: Error) => void} tell
 */
function form(made, tell) {
  const name = h("input", { id: "key-name", maxlength: 100, required: true, autocomplete: "off" });
  const life = h(
    "select",
    { id: "key-life" },
    ...LIVES.map((days) => h("option", { value: days }, days ? t("{n} days", { n: days }) : t("Never"))),
  );
  const button = h("button", { type: "submit", class: "button primary" }, t("Make the key"));
  const make = async (/** @type {Event} */ event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      const days = Number(life.value);
      await made(await ask("POST", "api/keys", { body: { name: name.value, ...(days && { expires_in_days: days }) } }));
      name.value = "";
    } catch (error) {
      tell(/** @type {Error} */ (error));
    } finally {
      button.disabled = false;
    }
  };
  return h(
    "form",
    { onsubmit: make },
    h("div", { class: "field" }, h("label", { for: "key-name" }, t("What the new key is for")), name),
    h("div", { class: "field" }, h("label", { for: "key-life" }, t("It ends after")), life),
    h("div", { class: "buttons" }, button),
  );
}

/**
 * @param {HTMLElement} place
 * @param {string} key
 */
function showOnce(place, key) {
  const field = h("input", { readonly: true, "aria-label": t("The new key"), value: key });
  place.replaceChildren(
    h("p", {}, t("This is the key. It is shown only now: keep it.")),
    h("div", { class: "key-line" }, field, copyButton(() => key)),
  );
  place.hidden = false;
  field.focus();
  field.select();
}
