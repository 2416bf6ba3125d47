"""The responses to errors that no view raises on purpose."""

import pytest
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, InternalError, OperationalError
from django.http import Http404
from rest_framework.exceptions import ValidationError

from tokens.http.errors import answer, exception_handler


@pytest.mark.parametrize("error", [OperationalError("refused"), InterfaceError("closed"), InternalError("read-only")])
def test_unreachable_database_is_unavailable(error: Exception) -> None:
    response = exception_handler(error, {})
    assert response is not None
    assert (response.status_code, response.data["code"]) == (503, "unavailable")
    assert response["Retry-After"] == "5"
    assert "refused" not in str(response.data)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(Http404("no such page"), 404, "not_found"), (PermissionDenied("why"), 403, "permission_denied")],
)
def test_djangos_own_errors_have_the_one_shape(error: Exception, status: int, code: str) -> None:
    response = exception_handler(error, {})
    assert response is not None
    assert (response.status_code, response.data["code"]) == (status, code)
    assert response.data.keys() == {"detail", "code"}


def test_validation_error_without_a_field_is_an_object() -> None:
    response = exception_handler(ValidationError("wrong"), {})
    assert response is not None
    assert (response.status_code, response.data) == (400, {"non_field_errors": ["wrong"]})


def test_programming_error_is_not_hidden() -> None:
    assert exception_handler(ZeroDivisionError(), {}) is None


def test_plain_django_views_answer_the_same_way() -> None:
    response = answer(OperationalError("refused"))
    assert (response.status_code, response["Retry-After"], response["Content-Type"]) == (503, "5", "application/json")
    assert b'"code": "unavailable"' in response.content


def test_programming_error_in_a_plain_view_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        answer(ZeroDivisionError())
