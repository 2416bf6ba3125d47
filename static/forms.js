// @ts-check
/** What the pages share: one submission at a time, errors at their fields, and messages for screen readers. */

import { Misconfigured, Refused } from "./latchkey.js";

/** @template {HTMLElement} [T=HTMLElement] @param {string} selector @param {ParentNode} [within] @returns {T} */
export function find(selector, within = document) {
  return /** @type {T} */ (within.querySelector(selector));
}

/**
 * Return a text of the page, with its `{placeholders}` filled in.
 * @param {string} name @param {Record<string, string | number>} [values]
 */
export function text(name, values = {}) {
  const template = /** @type {HTMLTemplateElement} */ (find(`#text-${name}`));
  return (template.content.textContent ?? "").replace(/{(\w+)}/g, (_, key) => `${values[key]}`);
}

/** @type {ReturnType<typeof setTimeout>} */
let timer;

/** Show a message, and have screen readers read it. @param {string} message */
export function announce(message) {
  find("#status").textContent = message;
  clearTimeout(timer);
  timer = setTimeout(() => (find("#status").textContent = ""), 8000);
}

/** @param {unknown} error */
export function describe(error) {
  if (error instanceof Refused && error.status === 429) return text("throttled", { wait: inWords(error.retryAfter) });
  if (error instanceof Refused || error instanceof Misconfigured) return error.message;
  // The browser's messages about passkeys are not written for people.
  if (error instanceof DOMException && find("#text-passkey-cancelled")) return text("passkey-cancelled");
  if (error instanceof TypeError) return text("unreachable"); // fetch's error without a response
  throw error;
}

/** @param {number} seconds */
function inWords(seconds) {
  const [unit, size] = seconds < 90 ? ["second", 1] : seconds < 5400 ? ["minute", 60] : ["hour", 3600];
  const number = new Intl.NumberFormat(document.documentElement.lang, { style: "unit", unit, unitDisplay: "long" });
  return number.format(Math.max(Math.ceil(seconds / size), 1));
}

/** Give each password a button that shows it. @param {ParentNode} within */
export function addReveals(within) {
  for (const field of within.querySelectorAll("input[type=password]")) {
    const button = copy("reveal").firstElementChild;
    const frame = Object.assign(document.createElement("div"), { className: "password" });
    field.replaceWith(frame);
    frame.append(field, button);
  }
}

/** @param {string} id @returns {any} */
export function copy(id) {
  const template = /** @type {HTMLTemplateElement} */ (find(`#${id}`));
  return template.content.cloneNode(true);
}

document.addEventListener("click", ({ target }) => {
  const button = target instanceof Element ? target.closest(".reveal") : null;
  if (button) reveal(button, button.ariaPressed !== "true");
});

/** @param {Element} button @param {boolean} isShown */
function reveal(button, isShown) {
  button.ariaPressed = String(isShown);
  button.previousElementSibling?.setAttribute("type", isShown ? "text" : "password");
}

/**
 * Handle each submitted form by the function of its name; show an error at its field, or else in the form's alert.
 * @param {Record<string, (values: any) => Promise<unknown>>} works
 */
export function onSubmit(works) {
  document.addEventListener("submit", async (event) => {
    const form = /** @type {HTMLFormElement} */ (event.target);
    const work = works[form.id];
    if (!work) return;
    event.preventDefault();
    if (form.ariaBusy === "true") return;
    form.ariaBusy = "true";
    clear(form);
    for (const button of form.querySelectorAll(".reveal")) reveal(button, false); // or browsers remember the text
    try {
      await work(Object.fromEntries(new FormData(form)));
      form.reset();
    } catch (error) {
      if (form.isConnected) show(form, error); // else the page has moved on
    } finally {
      form.ariaBusy = "false";
    }
  });
}

/** @param {HTMLFormElement} form */
function clear(form) {
  find(".alert", form).textContent = "";
  for (const error of form.querySelectorAll(".error")) error.remove();
  for (const field of form.querySelectorAll("[aria-invalid]")) {
    field.removeAttribute("aria-invalid");
    const ids = field.getAttribute("aria-describedby")?.split(" ").filter((id) => !id.endsWith("-error")) ?? [];
    if (ids.length) field.setAttribute("aria-describedby", ids.join(" "));
    else field.removeAttribute("aria-describedby");
  }
}

/** @param {HTMLFormElement} form @param {unknown} error */
function show(form, error) {
  const elsewhere = [];
  for (const [name, messages] of Object.entries((error instanceof Refused && error.fields) || {})) {
    const field = form.elements.namedItem(name);
    if (field instanceof HTMLInputElement) mark(field, [messages].flat().join(" "));
    else elsewhere.push(...[messages].flat());
  }
  const invalid = find("[aria-invalid]", form);
  if (elsewhere.length || !invalid) find(".alert", form).textContent = elsewhere.join(" ") || describe(error);
  invalid?.focus();
}

/** @param {HTMLInputElement} field @param {string} message */
function mark(field, message) {
  const error = Object.assign(document.createElement("p"), { id: `${field.id}-error`, className: "error" });
  error.textContent = message;
  (field.closest(".password") ?? field).after(error);
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-describedby", `${field.getAttribute("aria-describedby") ?? ""} ${error.id}`.trim());
}
