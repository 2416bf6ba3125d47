// @ts-check
/** Passkeys in the server's own sign-in forms: the browser's response is sent with the form. */

import { describe, find } from "./forms.js";
import { read } from "./latchkey.js";
import { unavailable } from "./passkeys.js";

/** @type {HTMLButtonElement} */
const button = find("[data-options]");
const form = /** @type {HTMLFormElement} */ (button.form);
/** @param {string} name @returns {HTMLInputElement} */
const field = (name) => find(`[name=${name}]`, form);
const withoutPasskeys = unavailable();
if (withoutPasskeys) console.info(withoutPasskeys);
button.hidden = !!withoutPasskeys;

button.addEventListener("click", async () => {
  const message = find("[data-message]", form);
  message.textContent = "";
  try {
    const { challenge, publicKey } = await ask();
    const webauthn = /** @type {any} */ (PublicKeyCredential); // with a method that not every library of types has
    const options = { publicKey: webauthn.parseRequestOptionsFromJSON(publicKey) };
    const credential = /** @type {any} */ (await navigator.credentials.get(options));
    field("challenge").value = challenge;
    field("credential").value = JSON.stringify(credential.toJSON());
    form.submit(); // not requestSubmit(): name and password may be empty
  } catch (error) {
    message.textContent = describe(error);
  }
});

/** After a password, the page has the options for the browser. */
async function ask() {
  if (field("public_key").value) return { challenge: "", publicKey: JSON.parse(field("public_key").value) };
  return read(await fetch(button.dataset.options ?? "", { method: "POST" }));
}
