/**
 * The parser: CommonMark with tables, strikethrough and maths, no raw HTML, and no links but to the web and to mail.
 */

import MarkdownIt from "../../vendor/markdown-it.js";

const LINK = /^(?:https?:\/\/|mailto:)/i;
const DATA_IMAGE = /^data:image\/(?:png|gif|jpeg|webp);base64,[a-z0-9+/=]+$/i;

/** Longer formulas stay text. */
const MAX_FORMULA = 5000;

/** Whether an address is one that the page links to. */
export const isLink = (url) => LINK.test(url);

/** Whether an address holds an image itself, so that no host is asked for it. */
export const isDataImage = (url) => DATA_IMAGE.test(url);

const md = new MarkdownIt({ html: false, linkify: true });
md.validateLink = (url) => isLink(url.trim()) || isDataImage(url.trim());
// Only what is written as an address becomes one: "file.py" is no host of Paraguay.
md.linkify.set({ fuzzyLink: false, fuzzyEmail: false, fuzzyIP: false });
md.linkify.add("ftp:", null).add("//", null);

// Maths in a line -------------------------------------------------------------------------------------------

/** Where an unescaped `close` stands after `from`, or -1. */
function findClose(text, close, from) {
  let at = text.indexOf(close, from);
  while (at > 0 && text[at - 1] === "\\" && text[at - 2] !== "\\") at = text.indexOf(close, at + 1);
  return at;
}

function pushFormula(state, tex, display, end) {
  const token = state.push("formula", "code", 0);
  token.content = tex.trim();
  token.meta = { display };
  state.pos = end;
}

/** A number with a word after it: "5 for you, or in US". */
const AMOUNT = /^[\d.,]+\s+[a-z]{2,}/i;

/**
 * `$…$` and `$$…$$`. Prices are no formulas: a formula has no space inside of its dollars, no letter or digit before the
 * first one and no digit after the last, and does not begin as an amount does.
 */
function dollars(state, silent) {
  const { src, pos } = state;
  if (src[pos] !== "$") return false;
  const mark = src[pos + 1] === "$" ? "$$" : "$";
  const from = pos + mark.length;
  const to = findClose(src, mark, from);
  if (to <= from || to > state.posMax - mark.length || to - from > MAX_FORMULA) return false;
  const tex = src.slice(from, to);
  if (tex.trim() === "") return false;
  if (mark === "$") {
    if (/^\s|\s$|`/.test(tex) || AMOUNT.test(tex) || /\d/.test(src[to + 1] ?? "") || /\w/.test(src[pos - 1] ?? "")) return false;
  }
  if (!silent) pushFormula(state, tex, mark === "$$", to + mark.length);
  else state.pos = to + mark.length;
  return true;
}

/** `\(…\)` and `\[…\]`. */
function brackets(state, silent) {
  const { src, pos } = state;
  const open = src[pos + 1];
  if (src[pos] !== "\\" || (open !== "(" && open !== "[")) return false;
  const to = src.indexOf(open === "(" ? "\\)" : "\\]", pos + 2);
  if (to < 0 || to + 2 > state.posMax || to - pos > MAX_FORMULA || src.slice(pos + 2, to).trim() === "") return false;
  if (!silent) pushFormula(state, src.slice(pos + 2, to), open === "[", to + 2);
  else state.pos = to + 2;
  return true;
}

// Maths of its own lines ------------------------------------------------------------------------------------

const lineOf = (state, line) => state.src.slice(state.bMarks[line] + state.tShift[line], state.eMarks[line]).trimEnd();

/**
 * `$$` or `\[` at the beginning of a line, up to its end at the end of one, with no empty line between. While the text
 * is still open, a formula may be so too.
 */
function formulaBlock(state, startLine, endLine, silent) {
  if (state.sCount[startLine] - state.blkIndent >= 4) return false;
  const first = lineOf(state, startLine);
  const open = first.slice(0, 2);
  if (open !== "$$" && open !== "\\[") return false;
  const close = open === "$$" ? "$$" : "\\]";
  const lines = [];
  for (let line = startLine; line < endLine; line += 1) {
    const text = line === startLine ? first.slice(2) : lineOf(state, line);
    if ((line > startLine && state.isEmpty(line)) || state.sCount[line] < state.blkIndent) return false;
    const at = text.indexOf(close);
    if (at >= 0 && at !== text.length - 2) return false;
    lines.push(at < 0 ? text : text.slice(0, -2));
    if (at < 0) continue;
    return pushBlock(state, startLine, line + 1, lines, silent);
  }
  return Boolean(state.env.open) && lines.length > 1 && pushBlock(state, startLine, endLine, lines, silent, true);
}

function pushBlock(state, from, to, lines, silent, pending = false) {
  const tex = lines.join("\n").trim();
  if ((tex === "" && !pending) || tex.length > MAX_FORMULA) return false;
  if (silent) return true;
  state.line = to;
  const token = state.push("formula_block", "div", 0);
  Object.assign(token, { block: true, content: tex, map: [from, to], meta: { pending } });
  return true;
}

md.inline.ruler.before("escape", "formula_brackets", brackets);
md.inline.ruler.before("escape", "formula_dollars", dollars);
md.block.ruler.before("fence", "formula_block", formulaBlock, { alt: ["paragraph", "reference", "blockquote", "list"] });

// What becomes HTML -----------------------------------------------------------------------------------------

const escape = md.utils.escapeHtml;

md.renderer.rules.formula = (tokens, index) => {
  const { content, meta } = tokens[index];
  return `<code class="md-formula${meta.display ? " md-display" : ""}">${escape(content)}</code>`;
};

/** An image that the text itself holds is shown; of another host's there is a link, which asks it on a click only. */
md.renderer.rules.image = (tokens, index, options, env, self) => {
  const token = tokens[index];
  const url = token.attrGet("src") ?? "";
  const alt = self.renderInlineAsText(token.children ?? [], options, env);
  if (isDataImage(url)) return `<img src="${escape(url)}" alt="${escape(alt)}">`;
  const depth = tokens.slice(0, index).reduce((sum, { type, nesting }) => sum + (/^link_/.test(type) ? nesting : 0), 0);
  const text = escape(alt || url);
  return depth > 0 ? text : `<a class="md-image" href="${escape(url)}">${text}</a>`;
};

/** The blocks of a text, as markdown-it's tokens; their inline tokens are not parsed. `env` gets `references`. */
export function parseBlocks(text, env) {
  const tokens = [];
  md.block.parse(text, md, env, tokens);
  return tokens;
}

/** The HTML of a line's text. It is to be sanitised. */
export const inlineHtml = (text, env) => md.renderInline(text, env);
