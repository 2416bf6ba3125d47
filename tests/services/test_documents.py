"""Runs the steps of docs/keys.md and docs/other-services.md."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from tests.clients import App, claims_of
from tests.services import documents
from tokens.exceptions import TokenRefused
from tokens.jose import keys
from tokens.tokens import AccessToken


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which every command of docs/keys.md has been run."""
    folder = tmp_path_factory.mktemp("keys")
    if not shutil.which("openssl"):
        pytest.skip("The commands of docs/keys.md were not run: they need openssl.")
    for command in documents.commands("keys.md"):
        subprocess.run(["sh", "-euc", command], cwd=folder, capture_output=True, check=True)
    return folder


@pytest.mark.parametrize(("name", "algorithm"), [("ed25519.pem", "EdDSA"), ("p256.pem", "ES256"), ("rsa.pem", "RS256")])
def test_key_made_as_shown_signs_and_is_private(
    ann: Any, made: Path, settings: Settings, name: str, algorithm: str
) -> None:
    settings.TOKENS_SIGNING_KEYS = [str(made / name)]

    assert AccessToken.claims(str(AccessToken.for_user(ann)))

    assert keys.access_keys()[0].algorithm == algorithm
    assert (made / name).stat().st_mode & 0o777 == 0o600


def test_public_half_made_as_shown_verifies(made: Path, settings: Settings) -> None:
    settings.TOKENS_SIGNING_KEYS = [str(made / "p256.pem"), str(made / "ed25519-public.pem")]

    assert [key.private is not None for key in keys.access_keys()] == [True, False]


def test_own_keys_are_rotated_as_shown(ann: Any, made: Path, settings: Settings) -> None:
    files = {"old.pem": str(made / "ed25519.pem"), "new.pem": str(made / "rsa.pem")}
    steps = re.findall(r"\| \d \| `((?:\w+\.pem,?)+)` \|", (documents.DOCS / "keys.md").read_text())
    assert steps == ["old.pem,new.pem", "new.pem,old.pem", "new.pem"]
    settings.TOKENS_SIGNING_KEYS = [files["old.pem"]]
    app = App()
    app.login()
    first = app.access

    for step in steps:
        settings.TOKENS_SIGNING_KEYS = [files[name] for name in step.split(",")]
        latest = app.access
        # Tokens that were signed one step before are valid. After the last step, those from before the swap are not.
        assert AccessToken.claims(latest)
        app.refresh()

    with pytest.raises(TokenRefused):
        AccessToken.claims(first)


def test_new_secret_key_made_as_shown_is_strong_enough() -> None:
    [command] = [command for command in documents.commands("keys.md") if "secrets" in command]

    made = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout

    assert len(made.strip()) >= 50


def test_claims_are_added_as_shown(ann: Any, tmp_path: Path, settings: Settings, monkeypatch: Any) -> None:
    document = documents.files("other-services.md")
    (tmp_path / "claims.py").write_text(document["claims.py"])
    monkeypatch.syspath_prepend(tmp_path)
    settings.TOKENS_ACCESS_CLAIMS = "claims.add_claims"

    assert claims_of(str(AccessToken.for_user(ann)))["tenant"] == "example.com"
    assert 'TOKENS_ACCESS_CLAIMS = "claims.add_claims"' in (documents.DOCS / "other-services.md").read_text()
    del sys.modules["claims"]


@pytest.mark.parametrize(
    ("document", "claimed"),
    [
        ("other-services.md", f"every {keys.KEY_SET_MAX_AGE // 60} minutes".replace("5", "five")),
        ("other-services.md", f"at most once every {'ten' if keys.COOLDOWN == 10 else keys.COOLDOWN} seconds"),
        ("keys.md", "Wait five minutes"),
    ],
)
def test_documents_match_the_numbers_in_the_code(document: str, claimed: str) -> None:
    assert claimed in (documents.DOCS / document).read_text()
