"""The client for apps without a cookie jar, run by Node.js against the real server."""

import subprocess
from collections.abc import Iterator

import pytest
from django.contrib.auth import get_user_model

from tests.client.snippets import ROOT, placed, snippets
from tests.server import address_of_database, serve
from tests.tools import NODE

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def server(django_db_setup: None) -> Iterator[str]:
    with serve(address_of_database()) as url:
        yield url


def run(server: str, code: str) -> list[str]:
    """Return what the code prints, with a server that knows ada."""
    assert NODE
    get_user_model().objects.create_user("ada", password="the analytical engine")
    command = [NODE, "--input-type=module", "--eval", placed(code, (ROOT / "client/src").as_uri(), server)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("snippet", snippets("latchkey-client/store"))
def test_snippet_in_the_docs_runs(server: str, snippet: str) -> None:
    assert run(server, snippet) == ["ada"]


def test_app_survives_failures_and_leaves_no_session_behind(server: str) -> None:
    assert run(server, STORY) == [
        "Ada's phone",
        "restored",
        "a copy from before the change: token_revoked",
        "one session: The phone in the attic",
        "registered bob, in one session",
        "out, with nothing stored",
    ]


STORY = """
import { Latchkey } from "latchkey-client/store";

const base = "https://auth.example.com";
const open = (kept) => {
  const store = { get: () => kept.token, set: (token) => void (kept.token = token), remove: () => delete kept.token };
  return new Latchkey({ base, store });
};

const kept = {};
await open(kept).login("ada", "the analytical engine", { deviceName: "Ada's phone" });
const client = open(kept);
if (await client.restore()) {
  const { results } = await client.sessions();
  console.log(results[0].device);
}
await client.renew();
if (await open(kept).restore()) console.log("restored");

await client.renew();
const copy = { ...kept };
await client.changePassword("the analytical engine", "the difference engine");
const thief = open(copy);
await thief.restore();
console.log(`a copy from before the change: ${thief.reason}`);

const { results } = await client.sessions();
await client.renameSession(results[0].id, "The phone in the attic");
const sessions = await client.sessions();
if (sessions.results.length === 1) console.log(`one session: ${sessions.results[0].device}`);

const bob = open({});
const { username } = await bob.register({ username: "bob", password: "a rather long sentence" });
const { length } = (await bob.sessions()).results;
console.log(`registered ${username}, in ${length === 1 ? "one session" : length}`);

await client.logout();
console.log(`${client.status}, with ${kept.token ?? "nothing"} stored`);
"""
