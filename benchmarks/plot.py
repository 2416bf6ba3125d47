"""The plots: CPU time a request, as bars and against the number of sessions, for light pages and for dark ones."""

from collections.abc import Mapping, Sequence
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
    return _image(parts, y, colours)


def lines(sizes: Sequence[int], costs: Mapping[str, Sequence[float]], scheme: str) -> str:
    """Draw the milliseconds of each operation, one for each number of sessions."""
    colours, top, height = COLOURS[scheme], 48, 220
    greatest = max(max(values) for values in costs.values())
    parts = [_text(24, 24, "CPU milliseconds a request, by the number of sessions in PostgreSQL")]
    xs = [60 + index * WIDTH / max(len(sizes) - 1, 1) for index in range(len(sizes))]
    parts += [_text(x, top + height + 24, f"{size:,}", "middle") for x, size in zip(xs, sizes, strict=True)]
    parts.append(_bar(60, top + height, WIDTH, 1, colours["text"]))
    for (operation, values), colour in zip(costs.items(), colours["bars"], strict=False):
        ys = [top + height * (1 - value / greatest) for value in values]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        parts += [_text(x, y - 7, f"{value:.1f}", "middle") for x, y, value in zip(xs, ys, values, strict=True)]
        parts.append(_text(xs[-1] + 24, ys[-1] + 5, operation))
    return _image(parts, top + height + 44, colours)


def _image(parts: Sequence[str], height: float, colours: Mapping[str, object]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 60} {height:g}" role="img">',
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
