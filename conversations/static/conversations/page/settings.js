/** The settings: how the page looks, a model of one's own, what was used. */

import { ask } from "./api.js";
import { apiKeysSection } from "./apikeys.js";
import { config } from "./config.js";
import { openDialog } from "./dialogs.js";
import { h } from "./dom.js";
import { t } from "./i18n.js";
import { toast } from "./notices.js";
import { recallTheme, setTheme } from "./storage.js";
import { usageSection } from "./usage.js";

const CUSTOM = "custom";

/**
 * Open the settings.
 * @param {import("./models.js").Models} models
 */
export function openSettings(models) {
  if (document.querySelector("dialog[open]")) return;
  openDialog(
    t("Settings"),
    section(t("Appearance"), choice("theme", t("Theme"), themes(), recallTheme(), setTheme), languageChoice()),
    ownModel(models),
    usageSection((type) => models.nameOf(type)),
    ...(config.login ? [accountSection(), apiKeysSection()] : []),
  );
}

/**
 * @param {string} title
 * @param {...(Node | string)} content
 */
export function section(title, ...content) {
  return h("section", { class: "settings-section" }, h("h3", {}, title), ...content);
}

function themes() {
  return [
    ["system", t("As the system")],
    ["light", t("Light")],
    ["dark", t("Dark")],
  ];
}

function languageChoice() {
  return choice("language", t("Language"), config.languages, config.language, setLanguage);
}

/** @param {string} language */
export function setLanguage(language) {
  const { name, path, secure } = config.languageCookie;
  document.cookie = `${name}=${language}; path=${path}; max-age=31536000; samesite=lax${secure ? "; secure" : ""}`;
  location.reload();
}

/**
 * @param {string} id
 * @param {string} label
 * @param {string[][]} options
 * @param {string} chosen
 * @param {(value: string) => void} onChoice
 */
function choice(id, label, options, chosen, onChoice) {
  const select = h(
    "select",
    { id: `setting-${id}` },
    ...options.map(([value, name]) => h("option", { value, selected: value === chosen }, name)),
  );
  select.addEventListener("change", () => onChoice(select.value));
  return h("div", { class: "field" }, h("label", { for: `setting-${id}` }, label), select);
}

function accountSection() {
  const links = [...document.querySelectorAll("#menu-links a")].map((link) => h("li", {}, link.cloneNode(true)));
  return section(t("Account"), h("p", {}, t("Logged in as {name}.", { name: config.user })), h("ul", { class: "links" }, ...links));
}

// A model of one's own ----------------------------------------------------------------------------------------

/** @param {import("./models.js").Models} models */
function ownModel(models) {
  const own = models.config?.current_model_type === CUSTOM ? models.config : {};
  const url = input("own-url", t("URL"), { type: "url", placeholder: "http://127.0.0.1:11434/v1", value: own.llm_api_url });
  const key = input("own-key", t("API key"), { type: "password", autocomplete: "off", placeholder: own.llm_api_key });
  const model = input("own-model", t("Model's name"), { list: "own-models", autocomplete: "off", value: own.llm_model });
  const names = h("datalist", { id: "own-models" });
  const status = h("p", { class: "status", role: "status" });
  const fields = () => {
    /** @type {Record<string, string>} */
    const body = { custom_api_url: url.field.value.trim(), custom_model: model.field.value.trim() };
    if (key.field.value) body.custom_api_key = key.field.value;
    return body;
  };
  const act = (/** @type {() => Promise<string>} */ what) => async (/** @type {Event} */ event) => {
    event.preventDefault();
    const button = /** @type {HTMLButtonElement} */ (event.currentTarget);
    button.disabled = true;
    status.textContent = t("Asking…");
    status.className = "status";
    status.textContent = await what().catch((error) => {
      status.className = "status bad";
      return error.message;
    });
    button.disabled = false;
  };
  const buttons = h(
    "div",
    { class: "buttons" },
    h("button", { type: "button", class: "button", onclick: act(() => list(fields(), names)) }, t("List its models")),
    h("button", { type: "button", class: "button", onclick: act(() => tryOut(fields())) }, t("Test")),
    h("button", { type: "button", class: "button primary", onclick: act(() => save(fields(), models)) }, t("Save and use")),
  );
  const hint = h("p", { class: "hint" }, t("Any server that speaks OpenAI's chat completions. Its key is stored encrypted."));
  return section(t("A model of my own"), hint, url.row, key.row, model.row, names, buttons, status);
}

/**
 * @param {string} id
 * @param {string} label
 * @param {Record<string, any>} attributes
 */
function input(id, label, attributes) {
  const field = h("input", { id, ...attributes });
  return { field, row: h("div", { class: "field" }, h("label", { for: id }, label), field) };
}

/**
 * @param {Record<string, string>} fields
 * @param {HTMLElement} names
 */
async function list(fields, names) {
  const { custom_model: _unknown, ...endpoint } = fields;
  const { models } = await ask("POST", "api/config/models", { body: endpoint });
  names.replaceChildren(...models.map((/** @type {string} */ name) => h("option", { value: name })));
  const shown = models.slice(0, 12).join(", ");
  return models.length ? t("It offers: {names}", { names: shown }) : t("It lists no models.");
}

/** @param {Record<string, string>} fields */
async function tryOut(fields) {
  const trial = await ask("POST", "api/config/test", { body: fields });
  return t("{model} answered in {n} ms: “{reply}”", { model: trial.model, n: trial.milliseconds, reply: trial.reply });
}

/**
 * @param {Record<string, string>} fields
 * @param {import("./models.js").Models} models
 */
async function save(fields, models) {
  models.take(await ask("POST", "api/config", { body: { ...fields, model_type: CUSTOM } }));
  toast(t("Saved. It answers from now on."));
  return t("Saved. It answers from now on.");
}
