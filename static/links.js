// @ts-check
/** The pages that mailed links lead to. */

import { addReveals, find, onSubmit } from "./forms.js";
import { read } from "./latchkey.js";

/** @type {{uid: string, token: string} | null} */
let link = null;

/** Take the link's secrets out of the address, so that neither the history nor a glance at the screen keeps them. */
function take() {
  const { uid, token } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  if (uid && token) link = { uid, token };
  if (location.hash) history.replaceState(null, "", location.pathname);
  show(link ? "ready" : "incomplete");
}

/** @param {string} name */
function show(name) {
  for (const view of document.querySelectorAll("[data-view]")) {
    /** @type {HTMLElement} */ (view).hidden = view.getAttribute("data-view") !== name;
  }
}

/** @param {string} path @param {Record<string, string>} [values] */
async function send(path, values) {
  const headers = { "Content-Type": "application/json" };
  const address = new URL(`..${path}`, import.meta.url); // static files are one folder below the server's own path
  await read(await fetch(address, { method: "POST", headers, body: JSON.stringify({ ...link, ...values }) }));
  show("done");
  find("[data-view=done] h1").focus();
}

onSubmit({
  "reset-password": ({ newPassword }) => send("/auth/password/reset/confirm", { newPassword }),
  "verify-email": () => send("/auth/email/verify"),
});
addReveals(document);
addEventListener("hashchange", take); // another link, opened in the same tab
take();
