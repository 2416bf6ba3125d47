"""Draws the diagrams of the documentation: `make diagrams` writes docs/images/*.svg.

They are plain files, so the site loads no drawing library from another host. Each has its own background, so it is
readable on light and dark pages.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

IMAGES = Path(__file__).resolve().parents[1] / "docs/images"
LETTER = 6.9  # pixels: about the width of one, at this size
LINE = 18  # pixels
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2933; }
.name { font-weight: 600; }
.panel { fill: #fbfcfd; stroke: #cbd2d9; }
.box { fill: #e0f2f1; stroke: #00796b; }
.plain { fill: #ffffff; stroke: #7b8794; }
.note { fill: #fff8e1; stroke: #f0b429; }
.bad { fill: #ffe3e3; stroke: #cf1124; }
.life { stroke: #9aa5b1; stroke-dasharray: 3 4; }
.arrow { stroke: #3e4c59; stroke-width: 1.5; marker-end: url(#head); fill: none; }
.lost { stroke: #cf1124; stroke-width: 1.5; stroke-dasharray: 6 4; }
.cross { stroke: #cf1124; stroke-width: 2.5; }
"""
HEAD = """<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0 0 8 4 0 8z" fill="#3e4c59"/></marker></defs>"""


def picture(title: str, width: float, height: float, parts: Iterable[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            HEAD,
            f'<rect class="panel" x="1" y="1" width="{width - 2:g}" height="{height - 2:g}" rx="8"/>',
            *parts,
            "</svg>\n",
        ]
    )


def text(x: float, y: float, words: str, anchor: str = "middle", kind: str = "") -> str:
    given = f' class="{kind}"' if kind else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{given}>{escape(words)}</text>'


def box(x: float, y: float, width: float, lines: Sequence[str], kind: str = "box") -> str:
    """Draw a box with that upper left corner; the first line is its name."""
    height = LINE * len(lines) + 14
    words = [
        text(x + width / 2, y + 20 + LINE * number, line, kind="" if number else "name")
        for number, line in enumerate(lines)
    ]
    return "\n".join(
        [f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>', *words]
    )


def arrow(x1: float, y1: float, x2: float, y2: float, words: str = "", dy: float = -6) -> str:
    line = f'<line class="arrow" x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"/>'
    return f"{line}\n{text((x1 + x2) / 2, (y1 + y2) / 2 + dy, words)}" if words else line


# Sequences


@dataclass(frozen=True)
class Message:
    sender: int
    receiver: int
    words: str
    lost: bool = False


@dataclass(frozen=True)
class Note:
    lane: int
    words: str
    kind: str = "note"


def sequence(title: str, lanes: Sequence[str], steps: Sequence[Message | Note]) -> str:
    """Draw a sequence of messages, from top to bottom."""
    gap, left, top, step = 330, 150, 74, 40
    width, height = left * 2 + gap * (len(lanes) - 1), top + step * len(steps) + 10
    parts = []
    for number, name in enumerate(lanes):
        x = left + gap * number
        parts += [
            f'<line class="life" x1="{x}" y1="46" x2="{x}" y2="{height - 12}"/>',
            box(x - 70, 14, 140, [name]),
        ]
    for number, item in enumerate(steps):
        y = top + step * number + 18
        if isinstance(item, Note):
            wide, x = len(item.words) * LETTER + 20, left + gap * item.lane
            start = min(max(x - wide / 2, 10), width - wide - 10)
            parts.append(f'<rect class="{item.kind}" x="{start:g}" y="{y - 17}" width="{wide:g}" height="26" rx="4"/>')
            parts.append(text(start + wide / 2, y + 1, item.words))
            continue
        begin, end = left + gap * item.sender, left + gap * item.receiver
        if item.lost:
            half = (begin + end) / 2
            parts.append(f'<line class="lost" x1="{begin}" y1="{y}" x2="{half:g}" y2="{y}"/>')
            parts.append(f'<path class="cross" d="M{half - 6:g} {y - 6} l12 12 m0 -12 l-12 12"/>')
            parts.append(text(half, y - 10, item.words))
        else:
            parts.append(arrow(begin, y, end, y, item.words))
    return picture(title, width, height, parts)


def rotation() -> str:
    return sequence(
        "A refresh exchanges the refresh token for a new one",
        ["Client", "Server"],
        [
            Message(0, 1, "POST /auth/refresh-token, with token 1"),
            Note(1, "token 2 is the newest; 1 is superseded"),
            Message(1, 0, "an access token, and token 2"),
            Message(0, 1, "GET /api/me/, with the access token"),
            Note(1, "the new tokens are in use"),
            Message(1, 0, "200"),
        ],
    )


def retry() -> str:
    return sequence(
        "A lost response does not end the session",
        ["Client", "Server"],
        [
            Message(0, 1, "POST /auth/refresh-token, with token 1"),
            Message(1, 0, "token 2", lost=True),
            Message(0, 1, "again, with token 1"),
            Note(1, "within 10 seconds: the same once more"),
            Message(1, 0, "token 2, byte for byte"),
            Message(0, 1, "or later, with token 1, while 2 was never used"),
            Message(1, 0, "token 3; token 2 is given up"),
        ],
    )


def reuse() -> str:
    return sequence(
        "A stolen token that is used again ends the session",
        ["Thief", "Client", "Server"],
        [
            Note(0, "has copied token 1", "bad"),
            Message(1, 2, "POST /auth/refresh-token, with token 1"),
            Message(2, 1, "token 2"),
            Message(1, 2, "GET /api/me/: token 2's access token is used"),
            Message(0, 2, "token 1"),
            Note(2, "superseded: the session ends", "bad"),
            Message(2, 0, "401 token_reused"),
            Message(1, 2, "token 2"),
            Message(2, 1, "401 token_revoked: sign in again"),
            Note(2, "its owner gets a mail"),
        ],
    )


# Boxes


def keys() -> str:
    return picture(
        "Which key signs what, and who verifies it",
        900,
        330,
        [
            box(20, 120, 200, ["SECRET_KEY", "of Django"]),
            arrow(220, 138, 320, 62, "HKDF", -20),
            arrow(220, 152, 320, 240, "HKDF", 28),
            box(320, 20, 230, ["Ed25519, private", "signs access tokens", "or SIGNING_KEYS, PEM files"]),
            box(320, 215, 230, ["HMAC key", "signs refresh tokens", "never leaves the server"]),
            arrow(550, 55, 650, 55, "public half"),
            box(650, 20, 230, ["/.well-known/jwks.json", "public"], "plain"),
            arrow(765, 70, 765, 130),
            box(650, 130, 230, ["Other services", "verify access tokens"], "plain"),
            arrow(550, 245, 650, 245),
            box(650, 215, 230, ["This server", "verifies refresh tokens"], "plain"),
        ],
    )


def same_origin() -> str:
    return picture(
        "One origin: a proxy in front of the front end and the server",
        900,
        190,
        [
            box(20, 65, 180, ["Browser", "https://example.com"], "plain"),
            arrow(200, 90, 320, 90, "HTTPS"),
            box(320, 65, 180, ["Proxy", "example.com"]),
            arrow(500, 80, 660, 45, "everything else", -20),
            arrow(500, 100, 660, 145, "/sso/", 20),
            box(660, 20, 220, ["Front end", "files, or its server"], "plain"),
            box(660, 120, 220, ["Latchkey"]),
        ],
    )


def subdomains() -> str:
    return picture(
        "Subdomains of one site",
        900,
        190,
        [
            box(20, 65, 240, ["Browser", "page of https://app.example.com"], "plain"),
            arrow(260, 80, 620, 45, "loads the page", -8),
            arrow(260, 100, 620, 145, "fetch, credentials: include", 22),
            box(620, 20, 260, ["Front end", "app.example.com"], "plain"),
            box(620, 115, 260, ["Latchkey", "auth.example.com"]),
        ],
    )


def two_sites() -> str:
    return picture(
        "Two sites: a third-party cookie",
        900,
        190,
        [
            box(20, 65, 240, ["Browser", "page of https://shop.example"], "plain"),
            arrow(260, 80, 620, 45, "loads the page", -8),
            arrow(260, 100, 620, 145, "fetch, to another site", 22),
            box(620, 20, 260, ["Front end", "shop.example"], "plain"),
            box(620, 115, 260, ["Latchkey", "auth.example.net"]),
        ],
    )


DIAGRAMS = {
    "rotation": rotation,
    "retry": retry,
    "reuse": reuse,
    "keys": keys,
    "same-origin": same_origin,
    "subdomains": subdomains,
    "two-sites": two_sites,
}


if __name__ == "__main__":
    for name, draw in DIAGRAMS.items():
        (IMAGES / f"{name}.svg").write_text(draw())
