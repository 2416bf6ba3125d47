"""docs/tutorials/mobile.md: compiled against Expo's packages, and run on Node with a stand-in for the keychain."""

from pathlib import Path

import httpx

from tests.mailbox import find_link
from tests.site.tutorials import install_client, latchkey, npm_install, run, write

VERIFY = r"https://app\.example\.com/verify#uid=\S+&token=\S+"
RESET = r"myapp://reset\?uid=\S+&token=\S+"


def test_app_stays_signed_in_and_opens_the_links_of_mails(tmp_path: Path) -> None:
    app, mails = tmp_path / "my-app", tmp_path / "mails"
    mails.mkdir()
    links = {
        "PASSWORD_RESET_URL": "myapp://reset?uid={uid}&token={token}",
        "EMAIL_VERIFICATION_URL": "https://app.example.com/verify#uid={uid}&token={token}",
    }
    with latchkey(tmp_path, EMAIL_URL=f"filemail:///{mails}", **links) as server:
        npm_install("mobile", app)
        install_client(tmp_path, app)
        names = write("tutorials/mobile.md", app, {'base: "https://auth.example.com"': f'base: "{server}"'})
        assert names == ["src/keychain.ts", "src/client.ts", "src/session.ts", "src/links.ts"]
        run(app, "npx tsc")
        ada = {"username": "ada", "password": "the analytical engine", "email": "ada@example.com"}
        assert httpx.post(f"{server}/auth/register", json=ada, trust_env=False).status_code == 201

        flow = "node --import ./phone.mjs flow.mjs"
        run(app, f"{flow} installed")
        run(app, f"{flow} started")
        run(app, f"{flow} verified {find_link(mails, VERIFY)[0]}")
        httpx.post(f"{server}/auth/password/reset", json={"email": "ada@example.com"}, trust_env=False)
        run(app, f"{flow} reset {find_link(mails, RESET)[0]}")
