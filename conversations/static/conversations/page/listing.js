/** Pages of the list of conversations, as the API has them. */

import { ask, nextPage } from "./api.js";

const FEW = 40;
const MOST = 500;
const PINNED = "conversations?limit=100&pinned=true";

/**
 * @typedef {{session_id: string, title: string, updated_at: string, is_pinned?: boolean, is_archived?: boolean}} Item
 * @typedef {{conversations: Item[], next: string | null}} Page With the path of the one that follows.
 */

/**
 * @param {string} path
 * @returns {Promise<Page>}
 */
export async function pageAt(path) {
  const { conversations, next } = await ask("GET", path);
  return { conversations, next: nextPage("conversations", next) };
}

/**
 * Return the begin of a list.
 * @param {boolean} isArchive
 * @param {number} wanted How many are shown already, and are to be there again.
 * @returns {Promise<Page>}
 */
export async function firstPage(isArchive, wanted) {
  const path = `conversations?limit=${Math.min(Math.max(wanted, FEW), MOST)}`;
  if (isArchive) return pageAt(`${path}&archived=true`);
  // Those that are pinned stand first, however long ago they were used.
  const [pinned, newest] = await Promise.all([pageAt(PINNED), pageAt(path)]);
  return { conversations: [...pinned.conversations, ...newest.conversations], next: newest.next };
}
