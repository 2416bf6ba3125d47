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
        ("\x00\ud800" * 128, "Unknown device"),
        ("(" * 256, "Unknown device"),
    ],
)
def test_user_agent_is_called_as_a_person_would(user_agent: str, device: str) -> None:
    with override("en"):
        assert devices.describe(user_agent) == device
