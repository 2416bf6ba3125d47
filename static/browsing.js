// @ts-check
/**
 * The browsable API's forms, for the methods and media types that a form alone can't send. The response replaces the
 * page.
 */

const PAGE = "text/html, */*;q=0.5";

document.addEventListener("submit", async (event) => {
  const form = /** @type {HTMLFormElement} */ (event.target);
  const method = form.dataset.method;
  if (!method) return;
  event.preventDefault();
  if (form.ariaBusy === "true") return;
  form.ariaBusy = "true";
  try {
    const { csrf = "", csrfHeader = "" } = find("[data-csrf]").dataset;
    const stay = "stay" in form.dataset; // this page shows its effect
    const headers = new Headers({ Accept: stay ? "application/json" : PAGE, [csrfHeader]: csrf });
    const body = bodyOf(form, method, headers);
    const answer = await fetch(form.action, { method, headers, body });
    const page = stay ? await fetch(location.href, { headers: { Accept: PAGE } }) : answer;
    show(await page.text());
    if (stay) tell(`${method} ${new URL(form.action).pathname}: ${answer.status} ${answer.statusText}`);
    if (!answer.ok) keep(form);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    tell(/** @type {HTMLTemplateElement} */ (find("#text-unreachable")).content.textContent ?? "");
  } finally {
    form.ariaBusy = "false";
  }
});

/** @param {HTMLFormElement} form @param {string} method @param {Headers} headers */
function bodyOf(form, method, headers) {
  const data = new FormData(form);
  if ("raw" in form.dataset) {
    headers.set("Content-Type", String(data.get("_content_type")));
    return String(data.get("_content"));
  }
  if (method !== "PATCH") return method === "POST" || method === "PUT" ? data : undefined;
  // Only changed fields: an unchanged address would ask for the password.
  const changes = new FormData();
  for (const field of form.querySelectorAll("input")) {
    if (isChanged(field)) changes.set(field.name, field.type === "checkbox" ? String(field.checked) : field.value);
  }
  return changes;
}

/** @param {HTMLInputElement} field */
function isChanged(field) {
  const { checked, defaultChecked, value, defaultValue, dataset } = field;
  return checked !== defaultChecked || value !== defaultValue || "changed" in dataset;
}

/** Put what was typed into the page's new form, to be corrected. @param {HTMLFormElement} form */
function keep(form) {
  const raw = "raw" in form.dataset;
  const again = document.querySelector(`[data-method=${form.dataset.method}]${raw ? "[data-raw]" : ":not([data-raw])"}`);
  if (!(again instanceof HTMLFormElement)) return;
  if (raw) again.closest("details")?.setAttribute("open", "");
  for (const field of form.querySelectorAll("input:not([type=hidden]), textarea, select")) {
    const { name, value, checked } = /** @type {HTMLInputElement} */ (field);
    const twin = /** @type {HTMLInputElement | null} */ (again.elements.namedItem(name));
    if (!twin) continue;
    if (field instanceof HTMLInputElement && isChanged(field)) twin.dataset.changed = "";
    Object.assign(twin, { value, checked });
  }
}

/** @param {string} html */
function show(html) {
  const page = new DOMParser().parseFromString(html, "text/html");
  document.title = page.title;
  document.body.replaceWith(page.body);
  scrollTo(0, 0);
  document.getElementById("answer")?.focus();
}

/** @param {string} message */
function tell(message) {
  find("#status").textContent = message;
}

/** @param {string} selector */
function find(selector) {
  return /** @type {HTMLElement} */ (document.querySelector(selector));
}
