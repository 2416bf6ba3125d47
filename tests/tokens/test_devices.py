import pytest
from django.utils.translation import override

from tokens.domain import devices

KIT = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
IPHONE = "Mobile Safari on iOS"


@pytest.mark.parametrize(
    ("user_agent", "device"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
        (
            f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {KIT} Chrome/140.0.0.0 Safari/537.36 Edg/140.0",
            "Edge on Windows",
        ),
        (f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {KIT} Version/18.0 Safari/605.1.15", "Safari on macOS"),
        (
            f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) {KIT} Version/18.0 Mobile/15E148 Safari/604.1",
            IPHONE,
        ),
        ("curl/8.5.0", "curl"),
        ("Android", "Android"),
        ("", "Unknown device"),
        ("nonsense", "Unknown device"),
        # Texts that the parser passes through.
        ("Account locked: call 555-0100 now/1.0 CFNetwork/1408 Darwin/22.0", "iOS"),
        ("Your password is void, see prize.example.com Bot/1.0", "Unknown device"),
        ("HbbTV/1.1.1 (; Callus;555; 2014)", "Unknown device"),
        ("Bargain Crawler/2.0 (Windows NT 10.0)", "Windows"),
        ("\x00\ud800" * 128, "Unknown device"),
        ("(" * 256, "Unknown device"),
    ],
)
def test_user_agent_gets_a_readable_name(user_agent: str, device: str) -> None:
    with override("en"):
        assert devices.describe(user_agent) == device


def test_only_known_names_are_shown() -> None:
    # Texts of which a regular expression of the parser passes a part through.
    assert devices.describe("Prize 555-0100-iPhone/1 CFNetwork/1 Darwin/22") in {"iOS", "macOS"}
    assert set(devices.FAMILIAR) <= devices.BROWSERS | devices.SYSTEMS


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("curl/8.5.0", "curl/8.6.0", True),
        ("curl/8.5.0", "Wget/1.21", False),
        ("Shop/1.2 (build 7)", "Shop/1.10 (build 11)", True),
        ("Shop/1.2", "Bank/1.2", False),
    ],
)
def test_another_version_is_the_same_device_and_an_unknown_name_is_not(one: str, other: str, alike: bool) -> None:
    assert (devices.likeness(one) == devices.likeness(other)) is alike
