// @ts-check
/** The pages that mailed links lead to. */

import { addReveals, find, onSubmit } from "./forms.js";
import { Latchkey, Refused } from "./latchkey.js";

/** @import { Link } from "./wire.js" */

// Static files are one folder below the server's own path. A link is independent of what other tabs are signed in to.
const client = new Latchkey({ base: new URL("..", import.meta.url), channel: null });

/** @type {Link | null} */
let link = null;

/** Take the link's secrets out of the address, so neither the history nor the screen shows them. */
async function take() {
  const { uid, token } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  if (uid && token) link = { uid, token };
  if (location.hash) history.replaceState(null, "", location.pathname);
  show(link ? "ready" : "incomplete");
  if (link) await check(link);
}

/** Report an old link before anything is typed. The link stays unused, since mail scanners open pages too. */
async function check(/** @type {Link} */ asked) {
  try {
    await (find("#verify-email") ? client.checkVerificationLink(asked) : client.checkResetLink(asked));
  } catch (error) {
    // If the server is away, the form says so when it is sent.
    if (isOld(error) && asked === link && !find("[data-view=ready]").hidden) move("old");
  }
}

/** Whether the link is refused, and not what was typed. @param {unknown} error */
function isOld(error) {
  return error instanceof Refused && ("token" in error.fields || "uid" in error.fields);
}

/** @param {string} name */
function show(name) {
  for (const view of document.querySelectorAll("[data-view]")) {
    /** @type {HTMLElement} */ (view).hidden = view.getAttribute("data-view") !== name;
  }
}

/** Show another view, and have screen readers read it from its heading. @param {string} name */
function move(name) {
  show(name);
  find(`[data-view=${name}] h1`).focus();
}

/** @param {(link: Link) => Promise<void>} use */
async function follow(use) {
  try {
    await use(/** @type {Link} */ (link));
    move("done");
  } catch (error) {
    if (!isOld(error)) throw error;
    move("old");
  }
}

onSubmit({
  "reset-password": ({ newPassword }) => follow((link) => client.resetPassword(link, newPassword)),
  "verify-email": () => follow((link) => client.verifyEmail(link)),
});
addReveals(document);
addEventListener("hashchange", take); // another link, opened in the same tab
take();
