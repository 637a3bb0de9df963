/** Texts, numbers and times in the reader's language. */

import { config, texts } from "./config.js";

/**
 * Return a text in the page's language.
 * @param {string} text In English, as `conversations/pages/texts.py` has it.
 * @param {Record<string, string | number>} [values] For its {places}.
 * @returns {string}
 */
export function t(text, values = {}) {
  return (texts[text] ?? text).replace(/\{(\w+)\}/g, (place, name) => String(values[name] ?? place));
}

const locale = config.language === "zh-hans" ? "zh-Hans" : config.language || "en";
const numbers = new Intl.NumberFormat(locale);
const seconds = new Intl.NumberFormat(locale, { maximumFractionDigits: 1 });
const moments = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" });

/** @param {number} value */
export const formatNumber = (value) => numbers.format(value);

/** @param {string} iso */
export const formatMoment = (iso) => moments.format(new Date(iso));

/**
 * Return how long something took.
 * @param {number} milliseconds
 */
export function formatDuration(milliseconds) {
  const whole = Math.round(milliseconds / 1000);
  const tenths = Math.max(milliseconds / 1000, 0.1);
  if (whole < 60) return t("{n} s", { n: whole < 10 ? seconds.format(tenths) : numbers.format(whole) });
  return t("{m} min {s} s", { m: Math.floor(whole / 60), s: whole % 60 });
}

/**
 * Return an amount of money, whose currency only the operator knows.
 * @param {number} cost
 */
export function formatCost(cost) {
  return new Intl.NumberFormat(locale, { maximumSignificantDigits: 3 }).format(cost);
}

/**
 * Return under which heading of the list something of that time stands.
 * @param {string} iso
 */
export function groupOf(iso) {
  const midnight = new Date();
  midnight.setHours(0, 0, 0, 0);
  const days = (midnight.getTime() - new Date(iso).getTime()) / 86_400_000;
  if (days <= 0) return t("Today");
  if (days <= 1) return t("Yesterday");
  return days <= 7 ? t("The last 7 days") : t("Older");
}
