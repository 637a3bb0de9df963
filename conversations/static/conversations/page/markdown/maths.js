/** Formulas: TeX to MathML. The renderer is loaded when the first formula comes. */

import { sanitizeMaths } from "./sanitize.js";

const STYLES_KEPT = 500;
const FORMULAS_KEPT = 300;
const SAFE_VALUE = /^[\w#.%, +-]+$/;

let renderer = null;
let loading = null;
const made = new Map();

// Temml writes inline styles, which a strict CSP does not let pass: each becomes a class of this sheet.
const sheet = new CSSStyleSheet();
const classes = new Map();

function load() {
  loading ??= import("../../vendor/temml.js").then(({ default: temml }) => {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = new URL("../../vendor/temml.css", import.meta.url).href;
    document.head.append(link);
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
    renderer = temml;
  }).catch(() => {
    loading = null; // the next formula tries again
  });
  return loading;
}

function classOf(property, value) {
  const name = property.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  const rule = `${name}:${value}`;
  if (!classes.has(rule)) {
    if (classes.size >= STYLES_KEPT || !/^[a-z-]+$/.test(name) || !SAFE_VALUE.test(String(value))) return "";
    const made = `md-tml-${classes.size}`;
    sheet.insertRule(`.markdown math .${made}, .markdown math.${made} { ${rule} }`, sheet.cssRules.length);
    classes.set(rule, made);
  }
  return classes.get(rule);
}

/** Temml's own tree, with classes where it has styles. */
function withoutStyles(node) {
  const names = Object.entries(node.style ?? {}).map(([property, value]) => classOf(property, value));
  if (names.length) {
    node.classes = [...(node.classes ?? []), ...names.filter(Boolean)];
    node.style = {};
  }
  node.children?.forEach(withoutStyles);
  return node;
}

function render(tex, displayMode) {
  const options = { displayMode, throwOnError: true, trust: false, maxExpand: 200, maxSize: [20, 200] };
  try {
    const math = withoutStyles(renderer.__renderToMathMLTree(tex, options)).toNode();
    return sanitizeMaths(math);
  } catch {
    return null; // it stays as it was written
  }
}

function typeset(code) {
  const display = code.classList.contains("md-display");
  const key = `${display}${code.textContent}`;
  if (!made.has(key)) {
    if (made.size >= FORMULAS_KEPT) made.delete(made.keys().next().value);
    made.set(key, render(code.textContent, display));
  }
  const math = made.get(key);
  if (math) code.replaceWith(math.cloneNode(true));
}

/**
 * Set the formulas below a node; those of a page's first once the renderer is there.
 * @param {ParentNode} node
 * @returns {Promise<void> | null} null where nothing has to be waited for
 */
export function setFormulas(node) {
  const formulas = [...node.querySelectorAll("code.md-formula")];
  if (!formulas.length) return null;
  if (!renderer) return load().then(() => renderer && formulas.forEach(typeset));
  formulas.forEach(typeset);
  return null;
}
