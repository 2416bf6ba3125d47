// A client that uses the npm packages dpop and oauth4webapi, against a running server.
import assert from "node:assert/strict";
import { calculateThumbprint, generateKeyPair, generateProof } from "dpop";
import * as oauth from "oauth4webapi";

const [server, username, password] = process.argv.slice(2);
let nonce;

async function call(keys, method, path, { token, body, cookie } = {}) {
  const url = server + path;
  const headers = { DPoP: await generateProof(keys, url, method, nonce, token) };
  if (token) headers.Authorization = `DPoP ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  if (cookie) headers.Cookie = cookie;
  const response = await fetch(url, { method, headers, body: body && JSON.stringify(body) });
  nonce = response.headers.get("DPoP-Nonce") ?? nonce;
  const text = await response.text();
  return { status: response.status, body: text && JSON.parse(text), headers: response.headers };
}

const claims = (token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url"));

for (const algorithm of ["ES256", "Ed25519"]) {
  const keys = await generateKeyPair(algorithm);
  const thumbprint = await calculateThumbprint(keys.publicKey);
  nonce = undefined;

  // Both transports.
  const login = await call(keys, "POST", "/auth/login", { body: { username, password } });
  assert.equal(login.status, 200);
  assert.equal(login.body.tokenType, "DPoP");
  assert.ok(nonce);
  const pair = await call(keys, "POST", "/api/token/", { body: { username, password } });
  assert.equal(pair.status, 200);
  for (const token of [login.body.accessToken, pair.body.access]) assert.equal(claims(token).cnf.jkt, thumbprint);

  // Guarded requests; each slash stays as it was sent.
  for (const path of ["/api/me/", "/api/me", "/api/sessions/?pageSize=1"]) {
    assert.equal((await call(keys, "GET", path, { token: login.body.accessToken })).status, 200);
  }
  assert.equal((await call(keys, "PATCH", "/api/me/", { token: login.body.accessToken, body: {} })).status, 200);

  // Refreshes. The first one has to get the nonce.
  nonce = undefined;
  const asked = await call(keys, "POST", "/api/token/refresh/", { body: { refresh: pair.body.refresh } });
  assert.equal(asked.status, 401);
  assert.equal(asked.body.code, "use_dpop_nonce");
  const refreshed = await call(keys, "POST", "/api/token/refresh/", { body: { refresh: pair.body.refresh } });
  assert.equal(refreshed.status, 200);
  const cookie = login.headers.getSetCookie()[0].split(";")[0];
  const renewed = await call(keys, "POST", "/auth/refresh-token", { cookie });
  assert.equal(renewed.status, 200);

  // Another key, and no key.
  const others = await generateKeyPair(algorithm);
  const foreign = await call(others, "GET", "/api/me/", { token: refreshed.body.access });
  assert.equal(foreign.body.code, "dpop_key_mismatch");
  const bearer = await fetch(`${server}/api/me/`, { headers: { Authorization: `Bearer ${refreshed.body.access}` } });
  assert.equal((await bearer.json()).code, "dpop_proof_required");

  // oauth4webapi, which reads the challenge itself.
  const insecure = { [oauth.allowInsecureRequests]: true };
  const DPoP = oauth.DPoP({ client_id: server }, keys);
  const resource = await oauth.protectedResourceRequest(
    refreshed.body.access, "GET", new URL(`${server}/api/me/`), undefined, undefined, { DPoP, ...insecure },
  );
  assert.equal(resource.status, 200);
  assert.equal((await resource.json()).username, username);

  // Signing out.
  const renewedCookie = renewed.headers.getSetCookie()[0].split(";")[0];
  const out = await call(keys, "POST", "/auth/logout", { token: renewed.body.accessToken, cookie: renewedCookie });
  assert.equal(out.status, 204);
  const over = await call(keys, "GET", "/api/me/", { token: renewed.body.accessToken });
  assert.equal(over.body.code, "token_revoked");
}
console.log("well");
