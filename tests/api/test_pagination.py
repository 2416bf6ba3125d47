"""Pages: each row comes once and in order, even if rows are equal, or come and go meanwhile."""

from base64 import b64encode, urlsafe_b64encode
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.core import signing
from django.utils import timezone

from accounts.models import User
from tests.api.people import Person
from tokens.models import SecurityEvent

pytestmark = pytest.mark.django_db

LOG = "/api/security-events/"


@pytest.fixture
def log(ann: Person) -> list[str]:
    """The kinds of ten events, newest first. Those in the middle happened at the same moment."""
    SecurityEvent.objects.all().delete()
    now = timezone.now()
    ages = [0, 1, 2, 2, 2, 2, 2, 2, 3, 4]
    SecurityEvent.objects.bulk_create(
        SecurityEvent(user=ann.user, kind=f"kind{index}", created_at=now - timedelta(hours=age))
        for index, age in enumerate(ages)
    )
    return list(SecurityEvent.objects.order_by("-created_at", "-id").values_list("kind", flat=True))


def kinds(page: Any) -> list[str]:
    return [event["kind"] for event in page["results"]]


def fetch(person: Person, url: str, **query: Any) -> Any:
    response = person.call("get", url, **({"QUERY_STRING": urlencode(query)} if query else {}))
    assert response.status_code == 200, response.json()
    return response.json()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9, 10, 11])
def test_paging_forward_and_back_shows_every_row_once(ann: Person, log: list[str], size: int) -> None:
    pages = [fetch(ann, LOG, pageSize=size)]
    assert pages[0]["previous"] is None
    while pages[-1]["next"]:
        pages.append(fetch(ann, pages[-1]["next"]))
    assert [kind for page in pages for kind in kinds(page)] == log
    assert all(len(page["results"]) == size for page in pages[:-1])

    back = [pages[-1]]
    while back[-1]["previous"]:
        back.append(fetch(ann, back[-1]["previous"]))
    assert [kind for page in reversed(back) for kind in kinds(page)] == log
    assert kinds(fetch(ann, back[-1]["next"])) == kinds(back[-2]) if len(back) > 1 else back == pages


def test_inserts_and_deletions_do_not_shift_pages(ann: Person, log: list[str]) -> None:
    first = fetch(ann, LOG, pageSize=4)
    SecurityEvent.objects.create(user=ann.user, kind="new")
    SecurityEvent.objects.filter(kind__in=[log[0], log[3], log[5]]).delete()
    second = fetch(ann, first["next"])
    assert kinds(second) == [log[4], log[6], log[7], log[8]]
    assert kinds(fetch(ann, second["previous"])) == ["new", log[1], log[2]][-4:]


def test_empty_page_links_back(ann: Person, log: list[str]) -> None:
    first = fetch(ann, LOG, pageSize=4)
    second = fetch(ann, first["next"])
    SecurityEvent.objects.filter(kind__in=log[4:]).delete()
    empty = fetch(ann, first["next"])
    assert (empty["results"], empty["next"]) == ([], None)
    assert kinds(fetch(ann, empty["previous"])) == log[:4]

    SecurityEvent.objects.filter(kind__in=log[:4]).delete()
    SecurityEvent.objects.create(user=ann.user, kind="old", created_at=timezone.now() - timedelta(days=1))
    empty = fetch(ann, second["previous"])
    assert (empty["results"], empty["previous"]) == ([], None)
    assert kinds(fetch(ann, empty["next"])) == ["old"]


@pytest.mark.parametrize(
    ("asked", "size"),
    [(None, 50), ("1", 1), ("100", 100), ("101", 100), ("9" * 5000, 50)]
    + [(junk, 50) for junk in ("0", "-1", "", "x", "1.5", "²", "\x00")],
)
def test_page_size_is_respected_within_limits(ann: Person, asked: str | None, size: int) -> None:
    SecurityEvent.objects.bulk_create(SecurityEvent(user=ann.user, kind="x") for _ in range(101))
    assert len(fetch(ann, LOG, **({} if asked is None else {"pageSize": asked}))["results"]) == size


def test_equal_values_of_any_field_are_paged(staff: Person) -> None:
    for index in range(5):
        User.objects.create_user(f"user{index}")
    found, url = [], "/api/users/?ordering=email&pageSize=2"
    while url:
        page = fetch(staff, url)
        found += [user["username"] for user in page["results"]]
        url = page["next"]
    assert found == ["user0", "user1", "user2", "user3", "user4", "sue"]


def test_links_keep_the_query(staff: Person) -> None:
    for index in range(3):
        User.objects.create_user(f"user{index}")
    page = fetch(staff, "/api/users", ordering="-username", search="user", pageSize=2)
    assert page["next"].startswith("http://testserver/api/users/?")
    assert [user["username"] for user in fetch(staff, page["next"])["results"]] == ["user0"]


def signed(value: Any) -> str:
    return signing.Signer(salt="api.pagination:/api/security-events/:-created_at").sign_object(value)


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "\x00",
        "é\U0001f511",
        ":",
        "a:b",
        "x" * 5000,
        "[" * 5000,
        "null",
        b64encode(b"p=2000-01-01").decode(),
        b64encode(b"o=9999999&r=1&p=\xff\x00").decode(),
        urlsafe_b64encode(b'[false,["junk","junk"]]').decode(),
        signing.Signer().sign_object([False, ["junk", "junk"]]),
        signed([False, None]) + "x",
        "." + signed([False, None]),
    ],
)
def test_foreign_cursor_is_not_found(ann: Person, cursor: str) -> None:
    response = ann.call("get", LOG, QUERY_STRING=urlencode({"cursor": cursor}))
    assert (response.status_code, response.json()) == (404, {"detail": "Invalid cursor", "code": "not_found"})


def test_cursor_is_valid_for_its_list_and_order_only(staff: Person) -> None:
    User.objects.create_user("ann")
    cursor = fetch(staff, "/api/users/", pageSize=1)["next"].partition("?")[2]
    assert [user["username"] for user in fetch(staff, f"/api/users/?{cursor}")["results"]] == ["sue"]
    for path in (f"/api/users/?ordering=dateJoined&{cursor}", f"/api/sessions/?{cursor}", f"{LOG}?{cursor}"):
        assert staff.call("get", path).status_code == 404


def test_browser_gets_links_to_the_other_pages(ann: Person, log: list[str]) -> None:
    page = ann.call("get", f"{LOG}?pageSize=4", HTTP_ACCEPT="text/html").content.decode()
    assert "cursor=" in page
