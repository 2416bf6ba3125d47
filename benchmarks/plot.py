"""The plot of the benchmarks: CPU time a request, as bars, for light pages and for dark ones."""

from collections.abc import Mapping
from html import escape
from pathlib import Path

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"

Bars = Mapping[str, Mapping[str, float]]
"""The milliseconds of each project, by operation."""

COLOURS = {
    "light": {"text": "#1f2933", "page": "#ffffff", "bars": ("#00796b", "#80cbc4", "#9aa5b1")},
    "dark": {"text": "#e4e7eb", "page": "#0d1117", "bars": ("#26a69a", "#00695c", "#616e7c")},
}
LEFT, WIDTH, BAR, GAP, HEAD = 190, 470, 16, 14, 64  # pixels


def plot(bars: Bars, scheme: str) -> str:
    colours, names = COLOURS[scheme], [*dict.fromkeys(name for row in bars.values() for name in row)]
    colour = dict(zip(names, colours["bars"], strict=False))
    scale = WIDTH / max(value for row in bars.values() for value in row.values())
    parts, y = [_text(LEFT, 24, "CPU milliseconds a request, workers and PostgreSQL together")], HEAD
    x = LEFT
    for name in names:
        parts += [_bar(x, 36, 12, 12, colour[name]), _text(x + 18, 47, name)]
        x += 40 + 7 * len(name)
    for operation, row in bars.items():
        parts.append(_text(LEFT - 12, y + BAR * len(row) / 2 + 5, operation, "end"))
        for name, value in row.items():
            parts += [
                _bar(LEFT, y, value * scale, BAR - 2, colour[name]),
                _text(LEFT + value * scale + 6, y + 12, f"{value:.1f}"),
            ]
            y += BAR
        y += GAP
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 60} {y}" role="img">',
            "<title>CPU time a request</title>",
            f"<style>text {{ font: 13px system-ui, sans-serif; fill: {colours['text']}; }}</style>",
            f'<rect width="100%" height="100%" fill="{colours["page"]}"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _bar(x: float, y: float, width: float, height: float, colour: object) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:.1f}" height="{height:g}" rx="2" fill="{colour}"/>'


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:g}" text-anchor="{anchor}">{escape(words)}</text>'
