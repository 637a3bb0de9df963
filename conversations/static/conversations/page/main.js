/** The page: brings its parts together, and follows the address. */

import { ApiError } from "./api.js";
import { Composer } from "./composer.js";
import { config } from "./config.js";
import { Conversation } from "./conversation.js";
import { showKeys } from "./dialogs.js";
import { byId, drawIcons, h } from "./dom.js";
import { belongTo, forgetDrafts, isInTab, keepInTab, returnDrafts } from "./drafts.js";
import { bindDropping } from "./dropping.js";
import { showExamples } from "./empty.js";
import { watch } from "./feed.js";
import { t } from "./i18n.js";
import { bindKeys } from "./keys.js";
import "./leaving.js";
import { menuLinks } from "./links.js";
import { openMenu } from "./menu.js";
import { Models } from "./models.js";
import { clearBanner, showBanner, toast, watchNetwork } from "./notices.js";
import { Panel } from "./panel.js";
import { Search } from "./search.js";
import { Sidebar } from "./sidebar.js";
import { recallTheme, setTheme } from "./storage.js";

drawIcons();
const siteTitle = document.title;
const panel = new Panel();
const models = new Models({ changed: () => showModel(), needsOwn: () => openSettings() });
const conversation = new Conversation({
  changed: () => show(),
  options: () => panel.set ?? {},
  creation: () => (panel.systemPrompt ? { system_prompt: panel.systemPrompt } : null),
  models: (has) => models.choicesFor(has),
  begun: (id) => onBegun(id),
  giveBack: (text, pictures) => composer.giveBack(text, pictures),
});
const composer = new Composer({
  send: (text, pictures) => conversation.asking.send(text, pictures),
  stop: () => conversation.answering.stop(),
});
const sidebar = new Sidebar({ open: (id) => go(id), gone: (id) => onGone(id) });
const search = new Search(sidebar, (id, messageId) => go(id, messageId));

// Where we are -------------------------------------------------------------------------------------------------

/** @returns {string | null} */
const addressed = () => new URL(location.href).searchParams.get("c");

/** @param {string | null} id */
const addressOf = (id) => (id ? `${config.page}?c=${encodeURIComponent(id)}` : config.page);

/**
 * Open a conversation, or a new one.
 * @param {string | null} id
 * @param {number} [messageId] To be shown.
 */
async function go(id, messageId) {
  toggleSidebar(false);
  if (id !== addressed()) history.pushState(null, "", addressOf(id));
  if (id !== conversation.id || id === null) await openAddressed();
  if (messageId !== undefined && conversation.info) await conversation.reveal(messageId);
}

async function openAddressed() {
  const id = addressed();
  const left = conversation.id;
  if (left && left !== id && isInTab(left)) forget(left);
  if (id) returnDrafts(id);
  composer.moveTo(id);
  sidebar.setCurrent(id);
  panel.moveTo(id, "");
  models.moveTo(id, "");
  composer.focus();
  if (!id) {
    conversation.startNew();
    return;
  }
  try {
    await conversation.open(id);
    if (conversation.id !== id || !conversation.info) return;
    panel.moveTo(id, conversation.info.system_prompt);
    models.moveTo(id, conversation.info.model_type);
  } catch (error) {
    onOpenFailed(id, error);
  }
}

/**
 * @param {string} id
 * @param {unknown} error
 */
function onOpenFailed(id, error) {
  if (conversation.id !== id || (error instanceof DOMException && error.name === "AbortError")) return;
  if (error instanceof ApiError && error.status === 404) {
    toast(t("This conversation is not there any more."));
    history.replaceState(null, "", addressOf(null));
    openAddressed();
    forget(id);
    return;
  }
  const retry = () => openAddressed();
  toast(/** @type {Error} */ (error).message, { label: t("Retry"), run: retry, stay: 60_000 });
}

/** What is being written in a conversation is not needed any more. @param {string} id */
function forget(id) {
  composer.tray.forget(id);
  forgetDrafts(id);
}

/** A conversation was deleted. @param {string} id */
function onGone(id) {
  if (id === conversation.id) go(null);
  forget(id);
}

/** A new conversation was stored. @param {string} id */
function onBegun(id) {
  history.replaceState(null, "", addressOf(id));
  if (conversation.isTemporary) keepInTab(id);
  composer.rename(id);
  panel.rename(id);
  models.open = { id, modelType: "" };
  sidebar.setCurrent(id);
}

// What is shown ------------------------------------------------------------------------------------------------

/** Show what the open conversation says of itself. */
function show() {
  const { id, info, isBusy, generationId, isTemporary, transcript } = conversation;
  composer.setState({ isBusy, canStop: generationId !== null });
  const isEmpty = transcript.views.length === 0 && (id === null || info !== null);
  byId("empty").hidden = !isEmpty;
  byId("app").classList.toggle("is-empty", isEmpty);
  byId("log").setAttribute("aria-busy", String(isBusy));
  const title = info?.title ?? "";
  byId("title").textContent = isTemporary ? t("Temporary chat") : title || (info ? t("Untitled chat") : t("New chat"));
  document.title = title ? `${title} · ${siteTitle}` : siteTitle;
  showModel();
  const temporary = byId("temporary");
  temporary.hidden = id !== null;
  temporary.setAttribute("aria-pressed", String(isTemporary));
}

function showModel() {
  composer.tray.welcome(models.mayTakeImages);
  const place = byId("empty-model");
  const name = models.nameOf(models.chosen);
  const text = isTemporaryText() || (name ? t("Answers come from {model}.", { model: name }) : "");
  place.replaceChildren(text);
  if (models.isDemo) place.append(h("span", { class: "demo" }, t("This is a small demo model inside this server: it speaks English only, and knows little. Choose another above, or add your own in the settings.")));
}

function isTemporaryText() {
  return conversation.isTemporary ? t("Temporary: it is not listed, and deleted after its last use.") : "";
}

byId("temporary").addEventListener("click", () => {
  conversation.isTemporary = !conversation.isTemporary;
  show();
});

// The side bar -------------------------------------------------------------------------------------------------

/** @param {boolean} isOpen */
function toggleSidebar(isOpen) {
  byId("app").classList.toggle("sidebar-open", isOpen);
  byId("scrim").hidden = !isOpen;
}

/** Whether the side bar lies over the conversation, as in a narrow window. */
const isSidebarOver = () => byId("app").classList.contains("sidebar-open");

byId("open-sidebar").addEventListener("click", () => {
  if (matchMedia("(min-width: 52rem)").matches) byId("app").classList.toggle("sidebar-closed");
  else toggleSidebar(true);
  byId("close-sidebar").focus();
});
byId("close-sidebar").addEventListener("click", () => {
  toggleSidebar(false);
  byId("app").classList.add("sidebar-closed");
  byId("open-sidebar").focus();
});
byId("scrim").addEventListener("click", () => toggleSidebar(false));
byId("new-chat").addEventListener("click", () => go(null));
byId("menu-button").addEventListener("click", (/** @type {Event} */ event) => {
  const links = menuLinks();
  const theme = recallTheme();
  const isArchive = sidebar.isArchive;
  openMenu(/** @type {HTMLElement} */ (event.currentTarget), [
    { label: t("Settings"), run: () => openSettings() },
    { label: isArchive ? t("Show the conversations") : t("Show the archive"), run: () => sidebar.showArchive(!isArchive) },
    { label: t("Keys"), run: showKeys },
    "line",
    { label: t("As the system"), checked: theme === "system", run: () => setTheme("system") },
    { label: t("Light"), checked: theme === "light", run: () => setTheme("light") },
    { label: t("Dark"), checked: theme === "dark", run: () => setTheme("dark") },
    ...(links.length ? /** @type {("line" | import("./menu.js").Entry)[]} */ (["line", ...links]) : []),
  ]);
});

/** The settings' scripts are loaded as they are opened: few visits need them. */
async function openSettings() {
  try {
    (await import("./settings.js")).openSettings(models);
  } catch {
    toast(t("The server cannot be reached."));
  }
}

// What is new --------------------------------------------------------------------------------------------------

/** @param {any} event */
function take(event) {
  clearBanner("login"); // nobody is told anything without one
  if (event.event === "resync") {
    sidebar.load();
    models.load();
    conversation.refresh().catch(() => {});
    return;
  }
  const isOpen = event.session_id === conversation.id;
  if (event.event === "conversation") {
    sidebar.take(event);
    if (isOpen) takeOpen(event);
    if (event.change === "deleted") forget(event.session_id);
    else if (!isInTab(event.session_id)) returnDrafts(event.session_id);
  } else if (event.event === "reply" && isOpen && !conversation.isBusy) {
    conversation.refresh().catch(() => {});
  }
}

/** @param {any} event About the conversation that is open. */
function takeOpen(event) {
  if (event.change === "deleted") {
    if (conversation.isSending) return;
    toast(t("This conversation was deleted."));
    go(null);
    return;
  }
  if (!event.conversation) return;
  const isOtherBranch = event.conversation.active_leaf !== conversation.transcript.leaf;
  conversation.info = event.conversation;
  panel.take(event.conversation.system_prompt);
  models.moveTo(conversation.id, event.conversation.model_type);
  show();
  if (isOtherBranch) conversation.refresh().catch(() => {});
}

/** @param {boolean} isConnected */
function tellConnection(isConnected) {
  if (isConnected) clearBanner("server");
  else showBanner("server", t("The server cannot be reached. Answers go on once it is back."));
}

window.addEventListener("chat:login", () => {
  const next = encodeURIComponent(location.pathname + location.search);
  const link = h("a", { href: `${config.login}?next=${next}` }, t("Log in"));
  showBanner("login", t("Your login has ended."), " ", link);
});
// A link within the page is no way to another conversation.
window.addEventListener("popstate", () => addressed() !== conversation.id && openAddressed());
// A page that comes back from the browser's memory has missed what happened since.
window.addEventListener("pageshow", (event) => event.persisted && location.reload());

bindKeys({
  search: () => {
    byId("app").classList.remove("sidebar-closed");
    if (!matchMedia("(min-width: 52rem)").matches) toggleSidebar(true);
    byId("search").focus();
  },
  newChat: () => go(null),
  stop: () => conversation.generationId !== null && conversation.answering.stop(),
  keys: showKeys,
  close: () => {
    if (panel.isOpen) panel.toggle(false);
    else if (isSidebarOver()) toggleSidebar(false);
    else return false;
    return true;
  },
  write: () => composer.area.focus(),
});
bindDropping({
  add: (files) => {
    composer.tray.add(files);
    composer.focus();
  },
  isWelcome: () => composer.tray.isWelcome,
});
watchNetwork();
belongTo(config.user);
showExamples((text) => conversation.asking.send(text));
models.load();
openAddressed();
// The list is asked for as the first thing that this tells.
watch(take, tellConnection);
