/** With a login goes what was being written: at forms with `data-forgets-drafts`, on this page and others. */

import { forgetAll } from "./drafts.js";

document.addEventListener("submit", ({ target }) => {
  if (target instanceof HTMLFormElement && "forgetsDrafts" in target.dataset) forgetAll();
});
