/** What is new, from the server to this tab. Tabs of one browser share a connection: it allows six to a host. */

import { ApiError, call } from "./api.js";
import { eventsOf, mayPass, Patience, pause } from "./stream.js";

const CHANNEL = "chat.feed";

/** Milliseconds after which the first event is not waited for: something on the way may hold streams back. */
const LATE = 3000;

/** What is there is to be asked for: something may have been missed. */
const RESYNC = { event: "resync" };

/**
 * Watch for as long as the page is open. The first thing that is taken is `resync`.
 * @param {(event: any) => void} take
 * @param {(isConnected: boolean) => void} tell
 */
export async function watch(take, tell) {
  const { signal } = new AbortController();
  if (!navigator.locks || !window.BroadcastChannel) {
    read(take, tell, signal);
    return;
  }
  const channel = new BroadcastChannel(CHANNEL);
  channel.onmessage = ({ data }) => {
    if (data.isConnected !== undefined) tell(data.isConnected);
    else take(data);
  };
  const both = (/** @type {any} */ event) => {
    channel.postMessage(event);
    take(event);
  };
  const tellBoth = (/** @type {boolean} */ isConnected) => {
    channel.postMessage({ isConnected });
    tell(isConnected);
  };
  // Whoever holds the lock reads for all; when that tab is closed, the next one does.
  await navigator.locks.request(CHANNEL, { ifAvailable: true }, (lock) => (lock ? read(both, tellBoth, signal) : take(RESYNC)));
  await navigator.locks.request(CHANNEL, () => read(both, tellBoth, signal));
}

/**
 * @param {(event: any) => void} take
 * @param {(isConnected: boolean) => void} tell
 * @param {AbortSignal} signal
 */
async function read(take, tell, signal) {
  const patience = new Patience();
  let isBegun = false;
  // What is there may be had, or why it may not, also where nobody can watch.
  const begin = () => {
    if (isBegun) return;
    isBegun = true;
    take(RESYNC);
  };
  setTimeout(begin, LATE);
  for (;;) {
    try {
      const response = await call("GET", "events", { signal });
      tell(true);
      for await (const { data } of eventsOf(response)) {
        patience.reset();
        if (data.error) break;
        isBegun = true;
        take(data);
      }
      begin();
      await patience.wait(signal);
    } catch (error) {
      begin();
      // Without a login there is nothing to watch until somebody logs in, perhaps in another tab.
      if (!mayPass(error)) await pause(30_000, signal);
      else {
        tell(error instanceof ApiError);
        await patience.wait(signal, error instanceof ApiError ? error.retryAfter * 1000 : 0);
      }
    }
  }
}
