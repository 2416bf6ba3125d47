"""A project's own second factor: a number that only ann has."""

from collections.abc import Mapping, Sequence
from typing import Any

from tokens.domain.client import Client
from tokens.domain.signing_in import Answer
from tokens.exceptions import AnswerNotValid


class PinNotValid(AnswerNotValid):
    field = "code"
    code = "invalid_pin"
    message = "That is not your number."


class Pin:
    def methods(self, user: Any) -> Sequence[str] | None:
        return ["pin"] if user.get_username() == "ann" else None

    def options(self, user: Any, challenge: str) -> Mapping[str, Any]:
        return {"hint": f"the number of {user.get_username()}"}

    def verify(self, user: Any, answer: Answer, client: Client) -> Sequence[str]:
        if answer["code"] != "4711":
            raise PinNotValid
        return ["pwd", "pin"]


PIN = Pin()
methods, options, verify = PIN.methods, PIN.options, PIN.verify
