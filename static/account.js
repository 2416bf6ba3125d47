// @ts-check
/** The account page: signing in, then viewing and changing the account. */

import { addReveals, announce, copy, describe, find, onSubmit, text } from "./forms.js";
import { Latchkey, Refused } from "./latchkey.js";
import { Passkeys, unavailable } from "./passkeys.js";

// Static files are one folder below the server's own path.
const dpop = !!document.querySelector("meta[name=dpop]");
const client = new Latchkey({ base: new URL("..", import.meta.url), dpop });
const passkeys = new Passkeys(client);
/** Why this page has no passkeys; empty if it has. The meta element says whether the server offers them. */
const withoutPasskeys = document.querySelector("meta[name=passkeys]") ? unavailable() : "PASSKEYS=off";
if (withoutPasskeys) console.info(withoutPasskeys);
const language = document.documentElement.lang;
/** @type {(id: string) => Map<string, string>} */
const labels = (id) => new Map(JSON.parse(find(id).textContent ?? "[]"));
const [kinds, reasons] = ["#kinds", "#reasons"].map(labels);
const alarming = new Set([
  "login_failed",
  "second_factor_failed",
  "second_factor_guessed",
  "second_factor_removed",
  "passkey_failed",
  "passkey_cloned",
  "passkey_removed",
  "recovery_code_used",
  "token_unproven",
  "retried_elsewhere",
  "token_reused",
]);

/** The challenge of a login that needs a second factor. */
let challenge = "";
/** The whole response to that login. @type {any} */
let wanted = null;
/** The view that is shown; empty until it is known whether somebody is signed in. */
let shown = "";
/** Whose account it shows. @type {string | undefined} */
let owner;

// What is shown

function route() {
  if (client.status === "in") return "account";
  if (challenge) return "second-factor";
  const asked = location.hash.slice(1);
  return ["register", "forgot"].includes(asked) && find(`#view-${asked}`) ? asked : "login";
}

function render() {
  const name = route();
  if (client.status === "unknown" || name === shown) return;
  const isStart = !shown;
  shown = name;
  find("#view").replaceChildren(copy(`view-${name}`));
  addReveals(find("#view"));
  for (const id of ["#who", "#sign-out"]) find(id).hidden = name !== "account";
  const heading = find("#view h1");
  document.title = `${heading.textContent} · Latchkey`;
  // Screen readers read a new view from its heading, and a new page from its top anyway.
  if (!isStart) heading.focus();
  else if (name !== "account") find("#view input").focus();
  passkeys.cancel(); // the previous view's request
  if (!withoutPasskeys && name === "login") {
    find("#use-passkey").hidden = false;
    offerPasskeys();
  }
  if (name === "second-factor") {
    find("#answer-passkey").hidden = !!withoutPasskeys || !wanted?.methods?.includes("passkey");
  }
  if (name === "login" && client.reason) {
    find("#why").textContent = text(client.reason === "token_reused" ? "reused" : "ended");
  }
}

client.addEventListener("change", () => {
  const before = owner;
  owner = client.user?.id;
  if (client.status === "in" && owner === before) return; // renamed, perhaps
  challenge = "";
  shown &&= "another's"; // the new user sees nothing of the previous one
  if (client.status === "in") history.replaceState(null, "", location.pathname);
  render();
  if (client.status === "in") loaded = attempt(load);
});

addEventListener("hashchange", render);

/** Give up the login that needs a second factor. */
function startAgain() {
  challenge = "";
  render();
}

const remember = () => !!(/** @type {HTMLInputElement | null} */ (find("#login [name=remember]"))?.checked);

/** Have the browser offer passkeys in the username field, as long as the field is shown. */
async function offerPasskeys() {
  try {
    if (await passkeys.canOffer()) await passkeys.login({ mediation: "conditional", remember });
  } catch (error) {
    if (error instanceof Refused && shown === "login") find("#login .alert").textContent = error.message;
  }
}

/** @param {string} form @param {() => Promise<unknown>} work */
async function withPasskey(form, work) {
  const alert = find(`#${form} .alert`);
  alert.textContent = "";
  try {
    await work();
  } catch (error) {
    if (alert.isConnected) alert.textContent = describe(error);
  }
}

// The account

/** @type {Promise<void>} */
let loaded;

async function load() {
  const retry = find("#retry");
  retry.hidden = true;
  try {
    const [me, factor, { hasPassword }] = await Promise.all([
      client.me(),
      client.secondFactorState(),
      client.json("/auth/password"),
      loadLists(),
      loadPasskeys(),
    ]);
    showAccount(me);
    showPasswords(hasPassword);
    showFactor(factor);
  } catch (error) {
    retry.hidden = false;
    throw error;
  }
}

/** @param {any} me */
function showAccount(me) {
  if (shown !== "account") return;
  find("#who").textContent = me.username;
  find("[data-me=username]").textContent = me.username;
  find("[data-me=email]").textContent = me.email || text("no-address");
  find("[data-me=dateJoined]").textContent = new Date(me.dateJoined).toLocaleDateString(language, { dateStyle: "long" });
  find("[data-me-value]").setAttribute("value", me.username);
  find("#staff").hidden = !me.isStaff;
  find("#verified").hidden = !me.email || !me.emailVerified;
  find("#unverified").hidden = find("#resend").hidden = !me.email || me.emailVerified;
}

/**
 * Ask for the password only where there is one. A disabled field is neither shown nor sent.
 * @param {boolean} areAsked
 */
function showPasswords(areAsked) {
  for (const field of document.querySelectorAll("#view [name=currentPassword]")) {
    field.toggleAttribute("disabled", !areAsked);
  }
  const label = text(areAsked ? "change-password" : "set-password");
  for (const element of document.querySelectorAll("[data-label=password]")) element.textContent = label;
}

/** Whether a passkey can answer in place of a code. */
let hasPasskeys = false;

/** Return the code or, if none was typed, a passkey's answer. @param {string} code */
const answerOf = async (code) => code || (hasPasskeys ? passkeys.answer() : undefined);

/** @param {Record<string, unknown>} values */
async function changeAccount(values) {
  const me = await client.json("/api/me/", "PATCH", values);
  await loaded; // an earlier response could arrive later
  showAccount(me);
}

/** @param {any} factor */
function showFactor({ enabled, enabledAt, recoveryCodesLeft, passkeys: count }) {
  const date = new Date(enabledAt).toLocaleDateString(language, { dateStyle: "long" });
  find("#factor-state").textContent = text(enabled ? "factor-on" : "factor-off", { date, count: recoveryCodesLeft });
  find("#factor-on").hidden = !enabled;
  for (const part of document.querySelectorAll("[data-factor]")) {
    const details = /** @type {HTMLDetailsElement} */ (part);
    // An account with passkeys may have codes or not.
    details.hidden = details.dataset.factor !== (enabled ? "on" : "off") && !(count && details.dataset.factor === "off");
  }
  hasPasskeys = !!count && !withoutPasskeys;
  find("#renew-by-passkey").hidden = !hasPasskeys;
  for (const hint of document.querySelectorAll("[data-passkey-hint]")) {
    hint.textContent = hasPasskeys ? text("or-passkey") : ""; // a field's description is read even if it is hidden
    hint.toggleAttribute("hidden", !hasPasskeys);
  }
  find("[data-factor=off] summary").textContent = text(count ? "add-codes" : "turn-on");
}

/**
 * Announce a change to the second factor, and show the recovery codes that came with it.
 * @param {string} what @param {{recoveryCodes?: string[]}} [answer]
 */
async function factorChanged(what, answer) {
  announce(text(what));
  find("#recovery-codes").hidden = !answer?.recoveryCodes;
  const codes = answer?.recoveryCodes?.join("\n") ?? "";
  find("#codes").textContent = codes;
  find("#copy-codes").hidden = !navigator.clipboard; // a page without TLS has none
  find("#save-codes").setAttribute("href", `data:text/plain,${encodeURIComponent(`${codes}\n`)}`);
  for (const details of document.querySelectorAll("[data-factor]")) details.removeAttribute("open");
  find("#enrol").hidden = false;
  find("#confirm-factor").hidden = true;
  find("#factor-title").focus();
  await loaded;
  const [factor] = await Promise.all([client.secondFactorState(), loadLists()]);
  showFactor(factor);
}

/** @type {Record<string, {path: string, template: string, fill: (item: any, row: any) => void}>} */
const lists = {
  devices: {
    path: "/api/sessions/",
    template: "device",
    fill(item, session) {
      find("[data-device]", item).textContent = session.device;
      find("[data-here]", item).hidden = !session.current;
      find("[data-address]", item).textContent = session.ipAddress ? ` · ${session.ipAddress}` : "";
      setTime("[data-last-used]", item, session.lastUsedAt);
      setTime("[data-created]", item, session.createdAt);
      const [rename, end] = item.querySelectorAll("button");
      rename.ariaLabel = text("rename", { name: session.device });
      end.hidden = session.current;
      end.ariaLabel = text("end-device", session);
      for (const button of [rename, end]) Object.assign(button.dataset, { id: session.id, device: session.device });
      if (!session.current) find("#end-others").hidden = false;
    },
  },
  events: {
    path: "/api/security-events/",
    template: "event",
    fill(item, event) {
      find(".dot", item).classList.toggle("warning", alarming.has(event.kind));
      find("[data-kind]", item).textContent = kinds.get(event.kind) ?? event.kind.replaceAll("_", " ");
      const reason = find("[data-reason]", item);
      reason.hidden = event.kind !== "session_revoked"; // the others say it
      reason.textContent = reasons.get(event.reason) ?? "";
      find("[data-address]", item).textContent = event.ipAddress ? ` · ${event.ipAddress}` : "";
      find("[data-agent]", item).textContent = event.device;
      find("[data-agent]", item).title = event.userAgent;
      setTime("[data-created]", item, event.createdAt);
    },
  },
};

function loadLists() {
  return Promise.all(Object.keys(lists).map((name) => loadList(name)));
}

/** @param {string} name @param {string} [page] The query of a page that is not the first. */
async function loadList(name, page) {
  const { path, template, fill } = lists[name];
  // A reloaded list is as long as before.
  const size = Math.min(Math.max(find(`#${name}`).querySelectorAll("li:not(.skeleton)").length, 10), 100);
  const { results, next } = await client.json(path + (page ?? `?pageSize=${size}`));
  if (shown !== "account") return;
  if (name === "devices" && !page) find("#end-others").hidden = true;
  const items = results.map((/** @type {any} */ row) => {
    const item = copy(template);
    fill(item, row);
    return item;
  });
  if (!page) find(`#${name}`).replaceChildren();
  find(`#${name}`).append(...items);
  const more = find(`[data-list=${name}]`);
  more.hidden = !next;
  // The server may know itself by another name than the browser does.
  more.dataset.page = next ? new URL(next).search : "";
}

async function loadPasskeys() {
  if (withoutPasskeys) return;
  const results = await passkeys.list();
  if (shown !== "account") return;
  const items = results.map((passkey) => {
    const item = copy("passkey");
    find("[data-name]", item).textContent = passkey.name;
    find("[data-synced]", item).hidden = !passkey.synced;
    find("[data-used]", item).hidden = !passkey.lastUsedAt;
    if (passkey.lastUsedAt) setTime("[data-last-used]", item, passkey.lastUsedAt);
    setTime("[data-created]", item, passkey.createdAt);
    for (const what of ["rename", "remove"]) {
      const button = find(`[data-do=${what === "rename" ? "askForName" : "askForRemoval"}]`, item);
      button.ariaLabel = text(what, { name: passkey.name });
      Object.assign(button.dataset, { id: passkey.id, name: passkey.name });
    }
    return item;
  });
  find("#passkeys").replaceChildren(...items);
  find("#passkeys-card").hidden = false;
}

/**
 * Do what needs a recent sign-in. If the sign-in is too old, ask the user to renew it, and try again.
 * @template T @param {() => Promise<T>} work @returns {Promise<T>}
 */
async function recently(work) {
  try {
    return await work();
  } catch (error) {
    const isOld = error instanceof Refused && error.code === "reauthentication_required";
    if (!isOld || !(await isRenewed())) throw error;
    return work();
  }
}

/** @returns {Promise<boolean>} Whether the person has renewed the sign-in. */
function isRenewed() {
  const form = /** @type {HTMLFormElement} */ (find("#reauthenticate"));
  const hasPassword = !find("[name=currentPassword]", form).hasAttribute("disabled");
  if (!hasPassword && find("[data-factor]", form).hidden) return Promise.resolve(false); // only signing in again helps
  form.reset();
  const dialog = /** @type {HTMLDialogElement} */ (find("#confirm-sign-in"));
  dialog.returnValue = "";
  dialog.showModal();
  const isDone = () => dialog.returnValue === "renewed";
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(isDone()), { once: true }));
}

function closeRenewed() {
  /** @type {HTMLDialogElement} */ (find("#confirm-sign-in")).close("renewed");
}

/** @param {string} what @param {string} dialog */
async function passkeyChanged(what, dialog) {
  /** @type {HTMLDialogElement} */ (find(dialog)).close();
  announce(text(what));
  find("#passkeys-title").focus();
  const [factor] = await Promise.all([client.secondFactorState(), loadPasskeys(), loadLists()]);
  showFactor(factor);
}

/** The passkey or the session that a dialog is about. */
let chosen = "";

/** @param {string} dialog @param {DOMStringMap} passkey */
function ask(dialog, passkey) {
  chosen = passkey.id ?? "";
  /** @type {HTMLFormElement} */ (find(`${dialog} form`)).reset();
  /** @type {HTMLDialogElement} */ (find(dialog)).showModal();
}

// What is done

/** @type {Record<string, (button: HTMLElement) => unknown>} */
const actions = {
  async signOut() {
    await client.logout();
    announce(text("signed-out"));
  },
  startAgain,
  usePasskey: () => withPasskey("login", () => passkeys.login({ remember })),
  renewByPasskey: () => withPasskey("reauthenticate", () => passkeys.reauthenticate().then(closeRenewed)),
  answerPasskey: () => withPasskey("second-factor", () => passkeys.secondFactor(wanted)),
  askForName({ dataset }) {
    ask("#edit-passkey", dataset);
    /** @type {HTMLInputElement} */ (find("#rename-passkey-name")).value = dataset.name ?? "";
  },
  askForRemoval({ dataset }) {
    ask("#drop-passkey", dataset);
  },
  askForDeviceName({ dataset }) {
    ask("#edit-device", dataset);
    /** @type {HTMLInputElement} */ (find("#rename-device-name")).value = dataset.device ?? "";
  },
  reload: () => load(),
  retry: () => restore(),
  closeDialog(button) {
    button.closest("dialog")?.close();
  },
  async resend() {
    await client.json("/auth/email/resend", "POST");
    announce(text("verification"));
  },
  more({ dataset }) {
    return loadList(dataset.list ?? "", dataset.page);
  },
  async endSession({ dataset }) {
    try {
      await client.revokeSession(dataset.id ?? "");
    } catch (error) {
      if (!(error instanceof Refused && error.status === 404)) throw error; // 404: it has already ended
    }
    announce(text("device-ended", { device: dataset.device ?? "" }));
    find("#devices-title").focus(); // the focused button is gone
    await loadLists();
  },
  askForOthers() {
    /** @type {HTMLDialogElement} */ (find("#confirm-others")).showModal();
  },
  async copyCodes() {
    await navigator.clipboard.writeText(find("#codes").textContent ?? "");
    announce(text("codes-copied"));
  },
  askForDeletion() {
    /** @type {HTMLFormElement} */ (find("#delete-account")).reset();
    /** @type {HTMLDialogElement} */ (find("#confirm-deletion")).showModal();
  },
  keepAccount() {
    /** @type {HTMLDialogElement} */ (find("#confirm-deletion")).close();
  },
};

document.addEventListener("click", ({ target }) => {
  const button = target instanceof Element ? /** @type {HTMLElement} */ (target.closest("[data-do]")) : null;
  if (button) attempt(() => actions[button.dataset.do ?? ""](button), button);
});

find("#confirm-others").addEventListener("close", ({ target }) => {
  const dialog = /** @type {HTMLDialogElement} */ (target);
  const isConfirmed = dialog.returnValue === "end";
  dialog.returnValue = "";
  if (isConfirmed) attempt(endOthers);
});

async function endOthers() {
  const { revoked } = await client.revokeOtherSessions();
  announce(text("others-ended", { count: revoked }));
  find("#devices-title").focus();
  await loadLists();
}

/**
 * Do what was asked for outside of a form; show an error at the top of the page.
 * @param {() => unknown} work @param {HTMLElement} [button]
 */
async function attempt(work, button) {
  if (button?.ariaBusy === "true") return;
  button?.setAttribute("aria-busy", "true");
  const alert = find("#account-alert");
  if (alert) alert.textContent = "";
  try {
    await work();
  } catch (error) {
    if (client.status === "in") find("#account-alert").textContent = describe(error);
  } finally {
    button?.removeAttribute("aria-busy");
  }
}

onSubmit({
  async login({ username, password, remember }) {
    try {
      await client.login(username, password, { remember: Boolean(remember) });
    } catch (error) {
      if (!(error instanceof Refused && error.code === "second_factor_required")) throw error;
      challenge = error.challenge ?? "";
      wanted = error.body;
      render();
    }
  },

  async "second-factor"({ code }) {
    try {
      await client.secondFactor(challenge, code.trim());
    } catch (error) {
      if (!(error instanceof Refused && error.code === "invalid_challenge")) throw error;
      startAgain(); // it has expired: start again with the password
      find("#login .alert").textContent = error.message;
    }
  },

  async register({ username, password, email, remember }) {
    const account = { username, password, email: email || undefined, remember: Boolean(remember) };
    const made = await client.register(account);
    if (!("detail" in made)) return;
    history.replaceState(null, "", location.pathname); // the address has to be verified first
    render();
    find("#why").textContent = made.detail;
  },

  async forgot({ email }) {
    await client.requestReset(email);
    announce(text("mailed"));
  },

  async "change-username"({ username }) {
    await changeAccount({ username });
    done("username");
  },

  async "change-email"({ email, currentPassword, code }) {
    await recently(async () => {
      const answer = await answerOf(code);
      await changeAccount({ email, currentPassword, ...(typeof answer === "string" ? { code } : answer) });
    });
    done("email");
  },

  async "change-password"({ currentPassword, newPassword }) {
    await recently(() => client.changePassword(currentPassword, newPassword));
    const isFirst = currentPassword === undefined;
    if (isFirst) showPasswords(true);
    done("password", isFirst ? "password-set" : "password");
  },

  async "delete-account"({ currentPassword, code }) {
    await recently(async () => client.deleteAccount(currentPassword, await answerOf(code)));
    announce(text("account-deleted"));
  },

  async reauthenticate({ currentPassword, code }) {
    await client.reauthenticate(currentPassword, code || undefined);
    closeRenewed();
  },

  async "add-passkey"({ name }) {
    const added = await recently(() => passkeys.add({ name: name || undefined }));
    find("#passkeys-card details").removeAttribute("open");
    await Promise.all([factorChanged("passkey-added", added), loadPasskeys()]);
  },

  async "rename-passkey"({ name }) {
    await passkeys.rename(chosen, name);
    await passkeyChanged("passkey-renamed", "#edit-passkey");
  },

  async "remove-passkey"() {
    await recently(() => passkeys.remove(chosen));
    await passkeyChanged("passkey-removed", "#drop-passkey");
  },

  async enrol({ currentPassword }) {
    const { secret, otpauthUri, qrCode } = await recently(() => client.setUpSecondFactor(currentPassword));
    find("#picture").setAttribute("src", qrCode);
    find("#secret").textContent = secret.replace(/(.{4})(?=.)/g, "$1 ");
    find("#authenticator").setAttribute("href", otpauthUri);
    find("#enrol").hidden = true;
    find("#confirm-factor").hidden = false;
    find("#confirm-factor-code").focus();
  },

  async "rename-device"({ name }) {
    await client.renameSession(chosen, name);
    /** @type {HTMLDialogElement} */ (find("#edit-device")).close();
    announce(text("device-renamed"));
    find("#devices-title").focus();
    await loadLists();
  },

  "confirm-factor": async ({ code, endOtherSessions }) => {
    const options = { endOtherSessions: Boolean(endOtherSessions) };
    await factorChanged("factor-switched-on", await client.confirmSecondFactor(code.trim(), options));
  },

  "renew-codes": async ({ currentPassword, code }) =>
    factorChanged(
      "codes-renewed",
      await recently(async () => client.renewRecoveryCodes(currentPassword, (await answerOf(code)) ?? code)),
    ),

  "remove-factor": async ({ currentPassword, code, endOtherSessions }) => {
    const options = { endOtherSessions: Boolean(endOtherSessions) };
    await recently(async () => client.removeSecondFactor(currentPassword, (await answerOf(code)) ?? code, options));
    await factorChanged("factor-switched-off");
  },
});

/** @param {string} what @param {string} [message] */
function done(what, message = what) {
  announce(text(message));
  const details = /** @type {HTMLDetailsElement} */ (find(`#change-${what}`).closest("details"));
  details.open = false;
  find("summary", details).focus();
  attempt(loadLists);
}

// Times

const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto" });
/** @type {[Intl.RelativeTimeFormatUnit, number][]} */
const units = [
  ["day", 86400],
  ["hour", 3600],
  ["minute", 60],
];

/** @param {string} selector @param {ParentNode} item @param {string} moment */
function setTime(selector, item, moment) {
  const time = /** @type {HTMLTimeElement} */ (find(selector, item));
  time.dateTime = moment;
  time.title = new Date(moment).toLocaleString(language, { dateStyle: "long", timeStyle: "short" });
  tell(time);
}

/** @param {HTMLTimeElement} time */
function tell(time) {
  const seconds = Math.max((Date.now() - new Date(time.dateTime).getTime()) / 1000, 0);
  const [unit, length] = units.find(([, size]) => seconds >= size) ?? ["second", Infinity];
  time.textContent = relative.format(-Math.floor(seconds / length), unit);
}

setInterval(() => {
  for (const time of document.querySelectorAll("time")) tell(time);
}, 30_000);

async function restore() {
  try {
    await client.restore();
  } catch (error) {
    find("#away").hidden = false;
    find("#away .alert").textContent = describe(error);
  }
}

restore();
