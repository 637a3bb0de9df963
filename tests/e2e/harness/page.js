// What the tests of MarkdownView call.
import { MarkdownView } from "/static/conversations/page/markdown.js";

const element = document.getElementById("view");
const hits = [];
window.hit = (what) => hits.push(what ?? "hit");

function fresh() {
  element.replaceChildren();
  return new MarkdownView(element);
}

/** The HTML of what rendering a text at once gives. */
async function atOnce(text) {
  await fresh().finish(text);
  return element.innerHTML;
}

/** The HTML of what a text gives that comes in parts. */
async function inParts(text, ends) {
  const view = fresh();
  for (const end of ends) {
    view.update(text.slice(0, end));
    if (end % 64 === 0) await new Promise((resolve) => setTimeout(resolve));
  }
  await view.finish(text);
  return element.innerHTML;
}

/** What is read of a text that came in parts, before and after it is said to be complete. */
async function beforeAndAfter(text, ends) {
  await atOnce("$x$"); // the first formula of a page waits for its library
  const view = fresh();
  for (const end of ends) {
    view.update(text.slice(0, end));
    await new Promise((resolve) => setTimeout(resolve));
  }
  // Updates that came too soon after another wait for a moment.
  while (!view.isCurrent) await new Promise((resolve) => setTimeout(resolve, 5));
  const before = element.innerText;
  await view.finish(text);
  return [before, element.innerText];
}

const ELEMENTS = "script, iframe, object, embed, style, link, meta, base, form, input, svg, template, video, audio";

function isDangerous({ name, value }) {
  if (/^on|^style$|^srcdoc$|^id$|^ping$/.test(name)) return true;
  return /^(href|src|action)$/.test(name) && !/^(https?:|mailto:|data:image\/png)/.test(value);
}

/** What a text brings that it must not, while it comes in parts and when it is complete. */
async function dangers(text) {
  const found = [];
  const look = () => {
    const all = [...element.querySelectorAll("*")];
    found.push(...hits, ...all.filter((e) => e.matches(ELEMENTS)).map((e) => e.outerHTML));
    found.push(...all.flatMap((e) => [...e.attributes].filter(isDangerous).map((a) => `${a.name}=${a.value}`)));
    const links = all.filter((e) => e.matches("a"));
    const closed = (a) => a.target === "_blank" && a.rel === "noopener noreferrer nofollow";
    found.push(...links.filter((a) => !closed(a)).map((a) => a.outerHTML));
  };
  const view = fresh();
  for (let end = 1; end < text.length; end += 1) {
    view.update(text.slice(0, end));
    look();
  }
  await view.finish(text);
  await frame();
  look();
  return found;
}

const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));

/** Let a text stream in, a frame's part at once, as fast as frames come. */
async function stream(text, charactersPerFrame) {
  const view = fresh();
  for (let end = charactersPerFrame; end < text.length; end += charactersPerFrame) {
    await frame();
    view.update(text.slice(0, end));
  }
  await frame();
  await view.finish(text);
  await frame();
  return element.textContent.length;
}

/** Random cuts, the same ones each time. */
function cuts(length, seed) {
  let state = seed;
  const ends = [];
  for (let end = 0; end < length;) {
    state = (state * 1103515245 + 12345) % 2147483648;
    end += 1 + (state % 13);
    ends.push(Math.min(end, length));
  }
  return ends;
}

Object.assign(window, { harness: { atOnce, beforeAndAfter, dangers, inParts, stream, cuts, hits, fresh, element } });
