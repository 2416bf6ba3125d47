import { Latchkey, Refused } from "./latchkey.js";

// This file is one folder below the server's own path. On another page of the server's origin, leave the base out.
// The pages of one origin share the cookie, so all of them use a key, or none do. To use one, latchkey.js needs dpop.js
// beside it.
const dpop = !!document.querySelector("meta[name=dpop]");
const client = new Latchkey({ base: new URL("..", import.meta.url), dpop });
const page = (id) => document.getElementById(id);
const texts = page("state").dataset;
const say = (line) => page("output").prepend(`${new Date().toLocaleTimeString()}  ${line}\n`);

// Runs when this tab is signed in or out: by its own form, another tab, or the server.
client.addEventListener("change", () => {
  const signedIn = client.status === "in";
  page("state").textContent = signedIn ? texts.in : texts.out;
  page("login").hidden = signedIn;
  page("actions").hidden = !signedIn;
  if (client.reason) say(`${texts.out}: ${client.reason}`);
});

async function attempt(work) {
  try {
    say(JSON.stringify(await work(), null, 2) ?? texts.done);
  } catch (error) {
    // Refused has a message for people and a code for programs.
    // Any other error means that the server could not be reached.
    if (error instanceof Refused) say(`${error.code}: ${error.message}`);
    else say(error.message);
  }
}

page("fetch").onclick = () => attempt(() => client.json("/api/me/"));
page("renew").onclick = () => attempt(() => client.renew());
page("logout").onclick = () => attempt(() => client.logout());

page("login").onsubmit = (event) => {
  event.preventDefault();
  const { username, password } = Object.fromEntries(new FormData(event.target));
  attempt(() => client.login(username, password));
  event.target.reset();
};

// A newly opened page has no access token; the cookie restores the session.
attempt(() => client.restore());

// Show this file. In production its name contains a hash.
page("code").textContent = await (await fetch(new URL("example.js", import.meta.url))).text();
