"""Random stories about one account's factors: an owner adds, uses and loses them, and a thief knows the password.

The factors, and who gets in, are compared with a model of a few lines. The thief sees every answer that the owner
sends, sends it again, and has a passkey of another account.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
import time_machine
from hypothesis import HealthCheck, Phase
from hypothesis import settings as how
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from pytest_django import Settings

from accounts.factors import second_factor
from accounts.models import User
from tests.accounts.authenticator import Authenticator, b64
from tests.accounts.devices import Device
from tests.clients import PASSWORD, Browser
from tests.proof.counts import Counts
from tests.proof.size import LONG
from tokens.models import Session

EXAMPLES, STEPS = (100, 40) if LONG else (5, 20)

STEP = timedelta(seconds=90)
"""The time between two sign-ins. A code expires sooner."""

Answer = dict[str, Any]


@dataclass
class Owned:
    """The owner's factors in the model."""

    app: Device | None = None
    passkeys: dict[str, Authenticator] = field(default_factory=dict)
    """By their ids."""
    recovery_codes: list[str] = field(default_factory=list)

    @property
    def methods(self) -> list[str]:
        has = {"passkey": self.passkeys, "otp": self.app, "recoveryCode": self.recovery_codes}
        return [method for method, owned in has.items() if owned]

    @property
    def is_protected(self) -> bool:
        return bool(self.app or self.passkeys)


class Story(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = time_machine.travel(datetime(2030, 1, 1, 12, tzinfo=UTC), tick=False)
        self.traveller = self.clock.start()
        self.users = [User.objects.create_user(name, f"{name}@example.com", PASSWORD) for name in ("ann", "bob")]
        User.objects.update(email_verified=True)
        self.owned, self.thiefs = Owned(), Authenticator()
        self.sent: list[Answer] = []
        """Every answer that the owner has sent to a challenge."""
        self.browser = Browser()
        self.browser.login("bob")
        self._add(self.thiefs)
        self.enter()

    def teardown(self) -> None:
        for user in self.users:
            user.delete()
        self.clock.stop()

    # What the owner does

    @precondition(lambda self: not self.owned.app)
    @rule()
    def set_up_an_app(self) -> None:
        self.enter()
        app = Device(self._post("/auth/second-factor", {"currentPassword": PASSWORD})["secret"])
        self._keep_codes(self._post("/auth/second-factor/confirm", {"code": app.code()}))
        self.owned.app = app

    @precondition(lambda self: len(self.owned.passkeys) < 2)
    @rule()
    def add_a_passkey(self) -> None:
        self.enter()
        device = Authenticator()
        answer = self._add(device)
        self._keep_codes(answer)
        self.owned.passkeys[answer["id"]] = device

    @precondition(lambda self: self.owned.passkeys)
    @rule()
    def remove_a_passkey(self) -> None:
        self.enter()
        pk, _ = self.owned.passkeys.popitem()
        bearer: dict[str, Any] = {"HTTP_AUTHORIZATION": f"Bearer {self.browser.access}"}
        assert self.browser.http.delete(f"/auth/passkeys/{pk}", **bearer).status_code == 204
        self._lose_codes()

    @precondition(lambda self: self.owned.app)
    @rule()
    def remove_the_app(self) -> None:
        self.enter()
        body = {"currentPassword": PASSWORD, **self._answer("otp", {})}
        assert self.browser.post("/auth/second-factor/remove", body, self.browser.access).status_code == 204
        self.owned.app = None
        self._lose_codes()
        self._watch(body)

    @rule()
    def have_staff_remove_them(self) -> None:
        assert second_factor.take_away(self.users[0]) == self.owned.is_protected
        self.owned = Owned()

    @precondition(lambda self: self.owned.is_protected)
    @rule(data=st.data())
    def sign_in(self, data: st.DataObject) -> None:
        self.enter(data.draw(st.sampled_from(self.owned.methods)))

    @precondition(lambda self: self.owned.passkeys)
    @rule()
    def sign_in_with_a_passkey_alone(self) -> None:
        self.traveller.shift(STEP)
        self.browser = Browser()
        asked = self.browser.post("/auth/login/passkey/options").json()
        device = next(iter(self.owned.passkeys.values()))
        body = {"challenge": asked["challenge"], "credential": device.get(asked["publicKey"])}
        assert self.browser._keep(self.browser.post("/auth/login/passkey", body)).status_code == 200
        self._watch(body)

    # What the thief does

    @precondition(lambda self: self.owned.is_protected)
    @rule()
    def try_what_is_at_hand(self) -> None:
        challenge = self._password(Browser())["challenge"]
        theirs = self.thiefs.get({"challenge": b64(sha256(challenge.encode()).digest())})
        guesses: list[Answer] = [{"code": "000000"}, {"credential": theirs}]
        for answer in (*guesses, *self.sent[-2:]):
            self._send_again(answer, challenge)

    def _send_again(self, answer: Answer, challenge: str) -> None:
        """Send the owner's answers again, each with its own challenge and with a new one."""
        count = Session.objects.count()
        for body in ({"challenge": challenge, **answer}, {**answer, "challenge": challenge}):
            for path in ("/auth/login/second-factor", "/auth/login/passkey"):
                response = Browser().post(path, body)
                assert response.status_code in (400, 401), (path, response.json())
                assert not response.cookies
        assert Session.objects.count() == count

    def _watch(self, answer: Answer) -> None:
        """See an answer of the owner, and send it again at once."""
        self.sent.append(answer)
        if self.owned.is_protected:
            self._send_again(answer, self._password(Browser())["challenge"])

    @invariant()
    def account_says_what_there_is(self) -> None:
        state = self.browser.get("/auth/second-factor").json()
        assert (state["enabled"], state["passkeys"]) == (self.owned.is_protected, len(self.owned.passkeys))
        assert state["recoveryCodesLeft"] == len(self.owned.recovery_codes)

    # How it is done

    def enter(self, method: str = "") -> None:
        """Sign in with the password and a second factor, if the account has one."""
        self.traveller.shift(STEP)
        self.browser = Browser()
        asked = self._password(self.browser)
        assert asked.get("methods", []) == self.owned.methods
        if self.owned.is_protected:
            answer = self._answer(method or self.owned.methods[0], asked)
            body = {"challenge": asked["challenge"], **answer}
            assert self.browser._keep(self.browser.post("/auth/login/second-factor", body)).status_code == 200
            self._watch(body)

    def _password(self, browser: Browser) -> Answer:
        answer = browser.login()
        assert answer.status_code == (401 if self.owned.is_protected else 200)
        body: Answer = answer.json()
        return body

    def _answer(self, method: str, asked: Answer) -> Answer:
        answer: Answer
        match method:
            case "passkey":
                answer = {"credential": next(iter(self.owned.passkeys.values())).get(asked["publicKey"])}
            case "otp":
                assert self.owned.app
                self.traveller.shift(STEP)
                answer = {"code": self.owned.app.code()}
            case _:
                answer = {"code": self.owned.recovery_codes.pop()}
        return answer

    def _post(self, path: str, body: Answer) -> Answer:
        answer = self.browser.post(path, body, self.browser.access)
        assert answer.status_code in (200, 201), answer.json()
        given: Answer = answer.json()
        return given

    def _add(self, device: Authenticator) -> Answer:
        asked = self._post("/auth/passkeys/options", {})
        body = {"challenge": asked["challenge"], "credential": device.create(asked["publicKey"])}
        return self._post("/auth/passkeys", body)

    def _keep_codes(self, answer: Answer) -> None:
        """They come with the first factor only."""
        assert ("recoveryCodes" in answer) == (not self.owned.is_protected)
        self.owned.recovery_codes = answer.get("recoveryCodes", self.owned.recovery_codes)

    def _lose_codes(self) -> None:
        if not self.owned.is_protected:
            self.owned.recovery_codes = []


@pytest.mark.django_db
def test_factors_match_the_model_and_are_always_required(settings: Settings, counts: Counts) -> None:
    settings.TOKENS_THROTTLING = False
    settings.PASSKEY_RP_ID, settings.PASSKEY_ORIGINS = "localhost", ["http://localhost:8000"]
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    run_state_machine_as_test(
        Story,
        settings=how(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            derandomize=not LONG,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
    counts.add("Random stories of factors", "all", stories=EXAMPLES)
