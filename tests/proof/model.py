"""The model of a session, written only from docs/model.md: no rows, no SQL, no clock.

For each token that anyone can present, at each moment, it says what the answer must be. test_model.py compares the real
code with it.
"""

from dataclasses import dataclass, field
from typing import Literal

GRACE = 10.0  # seconds
LATE_RETRIES = 3
REFRESH_LIFE = 7 * 86400
SESSION_LIFE = 90 * 86400
ACCESS_LIFE = 900

Answer = (
    int
    | Literal[
        "let in",
        "token_expired",
        "token_revoked",
        "token_reused",
        "token_not_valid",
        "dpop_proof_required",
        "dpop_key_mismatch",
    ]
)
"""A refresh token's number, 0 from the login and then one more for each, or the code of a refusal."""


@dataclass
class ModelSession:
    """The state of a session: the tokens that were issued, and which of them were seen."""

    began: float
    key: str = ""
    """The key to which it is bound; empty for none."""

    ended: str = ""
    """Why it ended; empty while it is active."""

    newest: int = 0
    newest_issued: float = 0.0
    exchanged: int | None = None
    """The token that was rotated into the newest; none after a login."""

    late_retries: int = 0
    """How often the exchanged token has been presented late."""

    was_used: bool = False
    """Whether the newest token, or an access token that came with it, has been used."""

    given_up: set[int] = field(default_factory=set)
    """The tokens that late retries gave up since the last ordinary rotation."""

    exposed: bool = False
    """Whether someone has looked at a token that was given up, since the newest was issued."""

    expiries: dict[int, int] = field(default_factory=dict)
    """When each refresh token expires, in whole seconds."""

    def __post_init__(self) -> None:
        self._issue(0, self.began)

    def refresh(
        self, token: int, now: float, *, proven: str = "", grace: float = GRACE, late_retry: bool = True
    ) -> Answer:
        """Present a refresh token, with or without the proof of a key."""
        if now >= self.expiries[token]:
            return "token_expired"
        if self.ended:
            return "token_revoked"
        if self.key and proven != self.key:
            return self._refuse_the_key(proven)
        if token == self.newest:
            if self.exchanged is not None and self._age(now) < grace:
                self.was_used = True
            else:
                self.exchanged, self.late_retries, self.given_up = token, 0, set()
                self._issue(self.newest + 1, now)
            return self.newest
        if self._is_retry(token, now, grace):
            return self.newest
        if self._is_late_retry(token) and late_retry:
            self.late_retries += 1
            self.given_up.add(self.newest)
            self._issue(self.newest + 1, now)
            return self.newest
        self.ended = "reused"
        return "token_reused"

    def access(self, came_with: int, expires: int, now: float, *, proven: str = "") -> Answer:
        """Use an access token that was issued with that refresh token, with or without the proof of a key."""
        if now >= expires:
            return "token_expired"
        if self.ended:
            return "token_revoked"
        if self.key and proven != self.key:
            return self._refuse_the_key(proven)
        if came_with in self.given_up:
            self.ended = "reused"
            return "token_reused"
        if came_with == self.newest:
            self.was_used = True
        return "let in"

    def verify(self, token: int, now: float) -> Answer:
        """Look at a refresh token: it is good if a refresh would accept it."""
        if now >= self.expiries[token]:
            return "token_expired"
        if self.ended:
            return "token_revoked"
        if token == self.newest or self._is_retry(token, now, GRACE) or self._is_late_retry(token):
            return "let in"
        return self._refuse_a_look(token)

    def verify_access(self, came_with: int, expires: int, now: float) -> Answer:
        """Look at an access token that was issued with that refresh token: it is good if it would be accepted."""
        if now >= expires:
            return "token_expired"
        if self.ended:
            return "token_revoked"
        return self._refuse_a_look(came_with) if came_with in self.given_up else "let in"

    def end(self, reason: str) -> bool:
        """End the session, if it is active; return whether it was."""
        if self.ended:
            return False
        self.ended = reason
        return True

    def is_over(self, now: float) -> bool:
        return bool(self.ended) or now >= self.expiries[self.newest]

    def _age(self, now: float) -> float:
        return max(now - self.newest_issued, 0)

    def _is_retry(self, token: int, now: float, grace: float) -> bool:
        return token == self.exchanged and not self.exposed and grace > 0 and self._age(now) <= grace

    def _is_late_retry(self, token: int) -> bool:
        is_good = token == self.exchanged and not self.exposed
        return is_good and not self.was_used and self.late_retries < LATE_RETRIES

    def _refuse_a_look(self, token: int) -> Answer:
        self.exposed = self.exposed or token in self.given_up
        return "token_not_valid"

    @staticmethod
    def _refuse_the_key(proven: str) -> Answer:
        return "dpop_key_mismatch" if proven else "dpop_proof_required"

    def _issue(self, token: int, now: float) -> None:
        self.newest, self.newest_issued, self.was_used, self.exposed = token, now, False, False
        self.expiries[token] = int(min(now + REFRESH_LIFE, self.began + SESSION_LIFE))
