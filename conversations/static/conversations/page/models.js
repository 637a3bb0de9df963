/** Which model answers, and which others there are. */

import { ApiError, ask } from "./api.js";
import { byId, h } from "./dom.js";
import { t } from "./i18n.js";
import { toast } from "./notices.js";

const CUSTOM = "custom";

/**
 * @typedef {{type: string, name: string, llm_model: string, is_demo?: boolean, takes_images?: boolean | null,
 *   takes_tools?: boolean | null}} Preset
 * A model that may be chosen, and why it cannot be where it cannot.
 * @typedef {{type: string, name: string, obstacle?: string}} Choice
 */

export class Models {
  /**
   * @param {{changed: () => void, needsOwn: () => void}} does
   */
  constructor({ changed, needsOwn }) {
    /** @type {HTMLSelectElement} */
    this.select = byId("model");
    this.onChange = changed;
    this.onOwn = needsOwn;
    /** @type {any} As `GET /api/config` tells it. */
    this.config = null;
    this.isLoading = false;
    /** @type {{id: string | null, modelType: string}} Of the open conversation, where it has one of its own. */
    this.open = { id: null, modelType: "" };
    this.select.addEventListener("change", () => this.choose(this.select.value));
  }

  /** Ask for them, unless they are there or on their way. */
  async load() {
    if (this.config || this.isLoading) return;
    this.isLoading = true;
    try {
      this.take(await ask("GET", "api/config"));
    } catch (error) {
      toast(/** @type {Error} */ (error).message);
    } finally {
      this.isLoading = false;
    }
  }

  /** @param {any} config */
  take(config) {
    this.config = config;
    this.draw();
    this.onChange();
  }

  /** @returns {Preset[]} */
  get presets() {
    return this.config?.preset_models ?? [];
  }

  get chosen() {
    return this.open.modelType || this.config?.current_model_type || "";
  }

  get isDemo() {
    return this.presets.some((preset) => preset.type === this.chosen && preset.is_demo);
  }

  /** Whether the chosen model may take images: of many that is not known. */
  get mayTakeImages() {
    return this.presets.find((preset) => preset.type === this.chosen)?.takes_images !== false;
  }

  /** @param {string} type */
  nameOf(type) {
    const preset = this.presets.find((one) => one.type === type);
    if (preset) return preset.name;
    if (type === this.config?.current_model_type) return this.config.llm_model || type;
    return type === CUSTOM ? t("My own model") : type;
  }

  /** @returns {Choice[]} */
  get choices() {
    const types = new Set([...this.presets.map((preset) => preset.type), this.chosen].filter(Boolean));
    return [...types].map((type) => ({ type, name: this.nameOf(type) }));
  }

  /**
   * Return the models, and what keeps some from answering.
   * @param {{hasImages: boolean, hasTools: boolean}} turn Of what they would have to take, as `Transcript.above` tells.
   * @returns {Choice[]}
   */
  choicesFor({ hasImages, hasTools }) {
    return this.choices.map((choice) => {
      const preset = this.presets.find(({ type }) => type === choice.type);
      if (hasImages && preset?.takes_images === false) return { ...choice, obstacle: t("takes no images") };
      if (hasTools && preset?.takes_tools === false) return { ...choice, obstacle: t("takes no tools") };
      return choice;
    });
  }

  /**
   * Show the model of a conversation.
   * @param {string | null} id
   * @param {string} modelType
   */
  moveTo(id, modelType) {
    this.open = { id, modelType };
    this.draw();
    this.onChange();
  }

  draw() {
    if (!this.config) return;
    const options = this.choices.map(({ type, name }) => h("option", { value: type, selected: type === this.chosen }, name));
    if (this.chosen !== CUSTOM) options.push(h("option", { value: CUSTOM }, t("My own model…")));
    this.select.replaceChildren(...options);
    this.select.title = this.nameOf(this.chosen);
  }

  /** @param {string} type */
  async choose(type) {
    const { open } = this;
    try {
      if (open.id) {
        await ask("PATCH", `conversations/${open.id}`, { body: { model_type: type } });
        open.modelType = type;
      } else {
        this.config = await ask("POST", "api/config", { body: { model_type: type } });
      }
    } catch (error) {
      if (type === CUSTOM && error instanceof ApiError) this.onOwn();
      else toast(/** @type {Error} */ (error).message);
    }
    this.draw();
    this.onChange();
  }
}
