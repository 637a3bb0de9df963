/** What was used this month: a bar a day, and a line a model. */

import { ask } from "./api.js";
import { h } from "./dom.js";
import { formatCost, formatNumber, t } from "./i18n.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 60;

/**
 * @param {(type: string) => string} nameOf Of a model type.
 * @returns {HTMLElement} A section that fills itself.
 */
export function usageSection(nameOf) {
  const place = h("div", { class: "usage" }, t("Loading…"));
  fill(place, nameOf).catch((error) => (place.textContent = error.message));
  return h("section", { class: "settings-section" }, h("h3", {}, t("Usage this month")), place);
}

/**
 * @param {HTMLElement} place
 * @param {(type: string) => string} nameOf
 */
async function fill(place, nameOf) {
  const today = new Date().toISOString().slice(0, 10);
  const from = `${today.slice(0, 8)}01`;
  const [{ usage }, limits] = await Promise.all([
    ask("GET", `api/usage?by=day,model&from=${from}`),
    ask("GET", "api/limits").catch(() => ({})),
  ]);
  if (!usage.length) {
    place.textContent = t("Nothing yet.");
    return;
  }
  place.replaceChildren(chart(usage, Number(today.slice(8))), table(usage, nameOf));
  const tokens = limits.tokens;
  if (tokens?.limit) {
    const values = { used: formatNumber(tokens.limit - tokens.remaining), limit: formatNumber(tokens.limit) };
    place.append(h("p", { class: "hint" }, t("Today {used} of {limit} tokens.", values)));
  }
}

/** @param {any} row */
const tokensOf = (row) =>
  row.prompt_tokens + row.completion_tokens + row.estimated.prompt_tokens + row.estimated.completion_tokens;

/**
 * @param {any[]} rows
 * @param {number} days
 */
function chart(rows, days) {
  const sums = Array.from({ length: days }, () => 0);
  for (const row of rows) sums[Number(row.day.slice(8)) - 1] += tokensOf(row);
  const most = Math.max(...sums, 1);
  const svg = svgElement("svg", { class: "bars", viewBox: `0 0 ${days * 10} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  svg.setAttribute("aria-label", t("Tokens by day"));
  sums.forEach((sum, day) => {
    const height = sum ? Math.max(2, (sum / most) * HEIGHT) : 1;
    const bar = svgElement("rect", { x: day * 10 + 1, y: HEIGHT - height, width: 8, height, rx: 1 });
    const title = svgElement("title", {});
    title.textContent = `${day + 1}: ${formatNumber(sum)}`;
    bar.append(title);
    svg.append(bar);
  });
  return svg;
}

/**
 * @param {string} tag
 * @param {Record<string, any>} attributes
 */
function svgElement(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  return element;
}

/**
 * @param {any[]} rows
 * @param {(type: string) => string} nameOf
 */
function table(rows, nameOf) {
  /** @type {Map<string, {requests: number, tokens: number, cost: number}>} */
  const models = new Map();
  for (const row of rows) {
    const sums = models.get(row.model_type) ?? { requests: 0, tokens: 0, cost: 0 };
    sums.requests += row.requests + row.estimated.requests;
    sums.tokens += tokensOf(row);
    sums.cost += row.cost + row.estimated.cost;
    models.set(row.model_type, sums);
  }
  const hasCost = [...models.values()].some((sums) => sums.cost > 0);
  const heads = [t("Model"), t("Answers"), t("Tokens used"), ...(hasCost ? [t("Cost")] : [])];
  const lines = [...models].map(([type, { requests, tokens, cost }]) => [
    nameOf(type),
    formatNumber(requests),
    formatNumber(tokens),
    ...(hasCost ? [formatCost(cost)] : []),
  ]);
  return h(
    "table",
    {},
    h("thead", {}, h("tr", {}, ...heads.map((head) => h("th", { scope: "col" }, head)))),
    h("tbody", {}, ...lines.map((cells) => h("tr", {}, ...cells.map((cell) => h("td", {}, cell))))),
  );
}
