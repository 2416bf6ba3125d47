"""Other services and other people's clients, with tokens that are bound to a key."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.clients import PASSWORD
from tests.forgery import forge
from tests.provers import Prover
from tests.services import documents
from tests.services.test_verifiers import DOCUMENT, NODE, install_jose, orders, program
from tests.services.wire import Client, call, sign_in

__all__ = ["orders"]

URL = "https://orders.example.com/orders"

Verify = Callable[..., str | None]


def bound(issuer: str, prover: Prover) -> Client:
    """Sign in with a key."""
    proof = prover.prove("POST", f"{issuer}/api/token/")
    answer = call("POST", f"{issuer}/api/token/", {"username": "ann", "password": PASSWORD}, DPoP=proof)
    assert answer.status == 200, answer
    return Client(answer.body["access"], answer.body["refresh"])


def proofs_to_refuse(prover: Prover, token: str) -> dict[str, str]:
    thief, claims = Prover(), prover.claims("GET", URL, token)
    with_private_half = prover.header(jwk={**prover.jwk, "d": prover.jwk["x"]})
    return {
        "another key": thief.prove("GET", URL, token),
        "another's key under the owner's name": forge(prover.header(), claims, thief.sign),
        "another method": prover.prove("POST", URL, token),
        "another URL": prover.prove("GET", f"{URL}/1", token),
        "another token": prover.prove("GET", URL, "another"),
        "no token": prover.prove("GET", URL),
        "too old": prover.prove("GET", URL, token, iat=claims["iat"] - 100),
        "from the future": prover.prove("GET", URL, token, iat=claims["iat"] + 100),
        "another kind": forge(prover.header(typ="JWT"), claims, prover.sign),
        "no key": forge(prover.header(jwk=None), claims, prover.sign),
        "a private key": forge(with_private_half, claims, prover.sign),
        "the token itself": token,
        "nothing": "a.b.c",
    }


def assert_asks_for_the_proof(verify: Verify, issuer: str, ann: Any) -> None:
    for alg in ("ES256", "Ed25519"):
        prover = Prover(alg)
        token = bound(issuer, prover).access
        good = prover.prove("GET", URL, token)
        assert verify("GET", URL, "DPoP", token, good) == str(ann.pk)
        assert verify("GET", URL, "Bearer", token, good) is None
        for name, proof in proofs_to_refuse(prover, token).items():
            assert verify("GET", URL, "DPoP", token, proof) is None, name
    unbound = sign_in(issuer).access
    assert verify("GET", URL, "Bearer", unbound, "") == str(ann.pk)
    assert verify("GET", URL, "DPoP", unbound, Prover().prove("GET", URL, unbound)) is None


def program_of(*command: str) -> Verify:
    def verify(*arguments: str) -> str | None:
        return program(*command, *arguments[:-1])(arguments[-1])

    return verify


def test_python_service_checks_the_proof(issuer: str, ann: Any, tmp_path: Path) -> None:
    documents.write(tmp_path, DOCUMENT, "verify_with_joserfc.py", "prove_with_joserfc.py", host=issuer)

    assert_asks_for_the_proof(program_of(sys.executable, str(tmp_path / "prove_with_joserfc.py")), issuer, ann)


def test_node_service_checks_the_proof(issuer: str, ann: Any, tmp_path: Path) -> None:
    install_jose(tmp_path)
    documents.write(tmp_path, DOCUMENT, "prove-with-jose.mjs", host=issuer)

    assert_asks_for_the_proof(program_of("node", str(tmp_path / "prove-with-jose.mjs")), issuer, ann)


def test_another_django_project_checks_the_proof(issuer: str, orders: str, ann: Any) -> None:
    prover, url = Prover(), f"{orders}/orders"
    token = bound(issuer, prover).access
    proof = prover.prove("GET", url, token)

    answer = call("GET", url, Authorization=f"DPoP {token}", DPoP=proof)
    assert (answer.status, answer.body) == (200, {"of": "ann"})
    for headers, code in (
        ({"Authorization": f"DPoP {token}", "DPoP": proof}, "invalid_dpop_proof"),
        ({"Authorization": f"Bearer {token}"}, "dpop_proof_required"),
        ({"Authorization": f"DPoP {token}"}, "dpop_proof_required"),
        ({"Authorization": f"DPoP {token}", "DPoP": Prover().prove("GET", url, token)}, "dpop_key_mismatch"),
    ):
        answer = call("GET", url, **headers)
        assert (answer.status, answer.body["code"]) == (401, code)


def test_clients_using_npm_packages_interoperate(issuer: str, ann: Any, tmp_path: Path) -> None:
    install_jose(tmp_path)
    shutil.copy(NODE / "interoperate.mjs", tmp_path)

    done = subprocess.run(
        ["node", "interoperate.mjs", issuer, "ann", PASSWORD],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (done.returncode, done.stdout.strip()) == (0, "well"), done.stderr
