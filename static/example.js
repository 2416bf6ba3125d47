import { Latchkey, Refused } from "./latchkey.js";

// This file is one folder below the server's own path. On another page of the server's origin, leave the base out.
// The pages of one origin share the cookie, so all of them prove the key of the session, or none does. For the key,
// latchkey.js needs dpop.js beside it.
const dpop = !!document.querySelector("meta[name=dpop]");
const client = new Latchkey({ base: new URL("..", import.meta.url), dpop });
const page = (id) => document.getElementById(id);
const texts = page("state").dataset;
const say = (line) => page("output").prepend(`${new Date().toLocaleTimeString()}  ${line}\n`);

// Whatever signs this tab in or out: its own form, another tab, or the server.
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
    // Refused has a sentence for people and a code for programs.
    // Anything else means that the server was out of reach.
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

// A page that has just been opened knows nothing; the cookie does.
attempt(() => client.restore());

// What you are reading. In production it runs under a name with a hash in it.
page("code").textContent = await (await fetch(new URL("example.js", import.meta.url))).text();
