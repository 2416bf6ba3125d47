"""What a device is called, for a person."""

import re

import ua_parser
from django.utils.translation import gettext as _
from ua_parser import OS, UserAgent

from ..models import Session

# The parser returns parts of the user agent as names. A stranger may have written them, and mails show them to the
# owner. So only these names are shown, as the parser spells them.
BROWSERS = frozenset({
    "Amazon Silk", "Android", "Brave", "Chrome", "Chrome Mobile", "Chrome Mobile WebView", "Chrome Mobile iOS",
    "Chromium", "DuckDuckGo", "DuckDuckGo Mobile", "Edge", "Edge Mobile", "Electron", "Epiphany", "Facebook",
    "Firefox", "Firefox Mobile", "Firefox iOS", "HeadlessChrome", "Huawei Browser", "IE", "IE Mobile", "Instagram",
    "Konqueror", "Ladybird", "MiuiBrowser", "Mobile Safari", "Mobile Safari UI/WKWebView", "MullvadBrowser", "Opera",
    "Opera GX", "Opera Mini", "Opera Mobile", "Opera Touch", "Pale Moon", "QQ Browser", "QQ Browser Mobile", "Safari",
    "Samsung Internet", "SeaMonkey", "Thunderbird", "UC Browser", "Vivaldi", "VivoBrowser", "Waterfox",
    "WeChat Browser", "Whale", "Yandex Browser", "qutebrowser",
    # Programs.
    "Apache-HttpClient", "CFNetwork", "Go-http-client", "HTTPie", "Java", "PostmanRuntime", "Python Requests",
    "Python aiohttp", "Python-urllib", "Wget", "WindowsPowerShell", "axios", "curl", "insomnia", "okhttp", "reqwest",
})  # fmt: skip
SYSTEMS = frozenset({
    "Android", "Arch Linux", "CentOS", "Chrome OS", "Debian", "Fedora", "FreeBSD", "Gentoo", "HarmonyOS", "KaiOS",
    "Kubuntu", "Linux", "Linux Mint", "Mac OS X", "NetBSD", "OpenBSD", "Red Hat", "Sailfish", "Solaris", "Tizen",
    "Ubuntu", "WatchOS", "Windows", "Windows Phone", "iOS", "openSUSE", "tvOS", "webOS",
})  # fmt: skip

FAMILIAR = {
    "Mac OS X": "macOS",
    "Mobile Safari UI/WKWebView": "Safari",
    "MullvadBrowser": "Mullvad Browser",
    "VivoBrowser": "Vivo Browser",
    "WatchOS": "watchOS",
    "axios": "Axios",
    "insomnia": "Insomnia",
}
"""Names that people know better than the parser's."""


def name(session: Session) -> str:
    """Return the session's device name, or else the one that its user agent gives."""
    return session.device_name or describe(session.user_agent)


def describe(user_agent: str) -> str:
    """Return something like "Firefox on Linux", as far as it is known; never text that the client chose."""
    # The parser caches its last 2,000 results.
    browser = _known(ua_parser.parse_user_agent(user_agent), BROWSERS)
    system = _known(ua_parser.parse_os(user_agent), SYSTEMS)
    if browser and system:
        return _("%(browser)s on %(system)s") % {"browser": browser, "system": system}
    return browser or system or _("Unknown device")


def likeness(user_agent: str) -> str:
    """Return a value that stays equal for one device across versions: its name, or else its user agent."""
    known = describe(user_agent)
    return re.sub(r"[\d.]+", "", user_agent) if known == _("Unknown device") else known


def _known(found: UserAgent | OS | None, names: frozenset[str]) -> str | None:
    return FAMILIAR.get(found.family, found.family) if found and found.family in names else None
