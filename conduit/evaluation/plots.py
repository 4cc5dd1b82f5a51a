"""Plots as hand-written SVG, and the page that holds them: no library, no script, no network.

Every chart is drawn twice, for a wide and for a narrow screen, so that its letters keep their size.
Lines differ by colour, dash and marker, so that they can be told apart in print.

>>> line = Line("a", [0, 1, 2], [0.0, 0.5, 1.0])
>>> chart = line_chart([line], x_label="queries", y_label="quality")
>>> chart.count("<svg")
2
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

WIDE, NARROW = 860, 350  # pixels of the drawing on a desk and on a telephone
POINTS = 160  # of a line: more are not seen
MARKERS = 7  # on a line
MOST_TICKS = 6

Format = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Style:
    """How a line looks: in colour, and without."""

    colour: str
    dash: str = ""
    marker: str = "circle"
    width: float = 2.0


# Okabe and Ito's colours, which colour-blind people tell apart, from dark to light.
STYLES: tuple[Style, ...] = (
    Style("#000000", "", "circle", 3.0),
    Style("#0072B2", "10 4", "square"),
    Style("#D55E00", "2 4", "triangle", 2.4),
    Style("#009E73", "12 4 2 4", "diamond"),
    Style("#B0578D", "5 5", "cross"),
    Style("#B8860B", "16 6", "ring"),
    Style("#767676", "3 3", "plus", 2.4),
)


@dataclass(frozen=True, slots=True)
class Line:
    """A named sequence of points."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis: from values to pixels."""

    low: float
    high: float
    start_px: float
    end_px: float
    ticks: tuple[float, ...]

    def px(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start_px + share * (self.end_px - self.start_px)


def plain_number(value: float) -> str:
    """Return a number with as few digits as it needs.

    >>> plain_number(0.25), plain_number(1200.0)
    ('0.25', '1,200')
    """
    return f"{value:,.10g}" if abs(value) < 1e6 else f"{value:.3g}"


def usd(value: float) -> str:
    """Return an amount of dollars as an axis shows it."""
    return f"${value:,.10g}"


def percent(value: float) -> str:
    """Return a share as an axis shows it."""
    return f"{100 * value:.4g} %"


def ticks_between(low: float, high: float, most: int = MOST_TICKS) -> tuple[float, ...]:
    """Return round numbers that cover an interval.

    >>> ticks_between(0.0, 0.93)
    (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    """
    if not high > low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / (most - 1)
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(s * size for s in (1, 2, 2.5, 5, 10, 20) if s * size >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(round(k * step, 12) for k in range(first, last + 1))


def line_chart(
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    y_format: Format = plain_number,
    y_range: tuple[float, float] | None = None,
    x_format: Format = plain_number,
    x_range: tuple[float, float] | None = None,
    description: str = "",
) -> str:
    """Return a chart of lines with its legend, as HTML with one SVG per screen."""
    if not lines or not any(len(line.x) for line in lines):
        return '<p class="note">There is nothing to plot.</p>'
    said = escape(description or f"{y_label} by {x_label}: {', '.join(n.name for n in lines)}")
    look = _Look(x_label, y_label, x_format, y_format, x_range, y_range)
    pictures = [
        f'<div class="{name}">' + _picture(lines, (width, height), look, said) + "</div>"
        for name, width, height in (("wide", WIDE, 340), ("narrow", NARROW, 270))
    ]
    return f"<figure>{''.join(pictures)}{_legend(lines)}</figure>"


def svg_chart(
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    y_format: Format = plain_number,
    title: str = "",
) -> str:
    """Return a chart as one SVG document of its own, its legend within."""
    height = 360 + 18 * len(lines)
    look = _Look(x_label, y_label, plain_number, y_format, None, None)
    inner = _picture(lines, (WIDE, 340), look, escape(title))
    rows = [
        f'<g transform="translate(60 {356 + 18 * k})">{_swatch(style_of(k))}'
        f'<text x="52" y="10">{escape(line.name)}</text></g>'
        for k, line in enumerate(lines)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {height}" '
        'font-family="system-ui, sans-serif" font-size="13">'
        f'<rect width="{WIDE}" height="{height}" fill="#fff"/>{inner}{"".join(rows)}</svg>\n'
    )


def style_of(k: int) -> Style:
    """Return the style of the k-th line."""
    return STYLES[k % len(STYLES)]


@dataclass(frozen=True, slots=True)
class _Look:
    """What the axes of a chart say."""

    x_label: str
    y_label: str
    x_format: Format
    y_format: Format
    x_range: tuple[float, float] | None
    y_range: tuple[float, float] | None


def _picture(lines: Sequence[Line], size: tuple[int, int], look: _Look, said: str) -> str:
    width, height = size
    xs = [*(look.x_range or ()), *(x for line in lines for x in line.x)]
    ys = [y for line in lines for y in line.y if math.isfinite(y)] or [0.0]
    y_ticks = ticks_between(*(look.y_range or (min(0.0, *ys), max(ys))))
    x_ticks = ticks_between(min(xs), max(xs), 4 if width < WIDE else 8)
    left = 14 + 7.5 * max(len(look.y_format(t)) for t in y_ticks)
    x = _Axis(min(xs), max(max(xs), min(xs) + 1e-9), left, width - 16, x_ticks)
    y = _Axis(y_ticks[0], y_ticks[-1], height - 46, 30, y_ticks)
    drawn = [_drawn(line, style_of(k), x, y, k) for k, line in enumerate(lines)]
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{said}"><title>{said}</title>'
        f'<text x="2" y="14" class="label">{escape(look.y_label)}</text>'
        f"{_grid(x, y, look)}{''.join(reversed(drawn))}"
        f'<text x="{(left + width - 16) / 2:.0f}" y="{height - 8}" text-anchor="middle" '
        f'class="label">{escape(look.x_label)}</text></svg>'
    )


def _grid(x: _Axis, y: _Axis, look: _Look) -> str:
    parts = []
    for tick in y.ticks:
        at = y.px(tick)
        parts.append(
            f'<line x1="{x.start_px:.1f}" x2="{x.end_px:.1f}" y1="{at:.1f}" y2="{at:.1f}" '
            f'stroke="#ddd"/><text x="{x.start_px - 6:.1f}" y="{at + 4:.1f}" '
            f'text-anchor="end">{escape(look.y_format(tick))}</text>'
        )
    for tick in x.ticks:
        if x.low <= tick <= x.high:
            at = x.px(tick)
            parts.append(
                f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y.start_px:.1f}" '
                f'y2="{y.start_px + 5:.1f}" stroke="#555"/>'
                f'<text x="{at:.1f}" y="{y.start_px + 19:.1f}" text-anchor="middle">'
                f"{escape(look.x_format(tick))}</text>"
            )
    parts.append(
        f'<line x1="{x.start_px:.1f}" x2="{x.end_px:.1f}" y1="{y.start_px:.1f}" '
        f'y2="{y.start_px:.1f}" stroke="#555"/>'
    )
    return "".join(parts)


def _drawn(line: Line, style: Style, x: _Axis, y: _Axis, k: int) -> str:
    points = [
        (x.px(a), y.px(b))
        for a, b in _thinned(list(zip(line.x, line.y, strict=True)))
        if math.isfinite(b)
    ]
    if not points:
        return ""
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    every = max(1, len(points) // MARKERS)
    marks = points[every * (2 * k % 11 + 1) // 12 :: every]  # shifted, so that they do not meet
    return (
        f'<polyline points="{path}" fill="none" stroke="{style.colour}" '
        f'stroke-width="{style.width}" stroke-linejoin="round"'
        + (f' stroke-dasharray="{style.dash}"' if style.dash else "")
        + "/>"
        + "".join(_mark(style, a, b) for a, b in marks)
    )


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    if len(points) <= POINTS:
        return points
    step = (len(points) - 1) / (POINTS - 1)
    return [points[round(k * step)] for k in range(POINTS)]


def _mark(style: Style, x: float, y: float) -> str:
    fill = f'fill="{style.colour}" stroke="#fff" stroke-width="1"'
    match style.marker:
        case "square":
            return f'<rect x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9" {fill}/>'
        case "triangle":
            return f'<path d="M{x:.1f} {y - 6:.1f}l6 10.5h-12z" {fill}/>'
        case "diamond":
            return f'<path d="M{x:.1f} {y - 6.5:.1f}l6.5 6.5l-6.5 6.5l-6.5 -6.5z" {fill}/>'
        case "cross":
            stroke = f'stroke="{style.colour}" stroke-width="2.6" fill="none"'
            return f'<path d="M{x - 4.5:.1f} {y - 4.5:.1f}l9 9m0 -9l-9 9" {stroke}/>'
        case "plus":
            stroke = f'stroke="{style.colour}" stroke-width="2.6" fill="none"'
            return f'<path d="M{x - 5.5:.1f} {y:.1f}h11m-5.5 -5.5v11" {stroke}/>'
        case "ring":
            ring = f'fill="#fff" stroke="{style.colour}" stroke-width="2.4"'
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" {ring}/>'
        case _:
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" {fill}/>'


def _swatch(style: Style) -> str:
    dash = f' stroke-dasharray="{style.dash}"' if style.dash else ""
    return (
        f'<line x1="0" x2="44" y1="6" y2="6" stroke="{style.colour}" '
        f'stroke-width="{style.width}"{dash}/>{_mark(style, 22, 6)}'
    )


def _legend(lines: Sequence[Line]) -> str:
    entries = [
        f'<li><svg viewBox="-1 -2 46 16" width="46" height="16" aria-hidden="true">'
        f"{_swatch(style_of(k))}</svg>{escape(line.name)}</li>"
        for k, line in enumerate(lines)
    ]
    return f'<ul class="legend">{"".join(entries)}</ul>'


def share_grid(
    rows: Sequence[str], columns: Sequence[str], shares: Sequence[Sequence[float]], corner: str
) -> str:
    """Return a table of shares in per cent, each cell as dark as its share is large."""
    head = "".join(f'<th scope="col">{escape(c)}</th>' for c in columns)
    body = []
    for name, values in zip(rows, shares, strict=True):
        cells = "".join(_share_cell(v) for v in values)
        body.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    return (
        f'<div class="scroll"><table class="grid"><thead><tr><th>{escape(corner)}</th>{head}</tr>'
        f"</thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _share_cell(share: float) -> str:
    light = 97 - 62 * min(max(share, 0.0), 1.0)  # per cent of lightness
    ink = "#fff" if light < 62 else "#111"
    return (
        f'<td style="background:hsl(205 60% {light:.0f}%);color:{ink}">'
        f"{'' if share < 0.005 else f'{100 * share:.0f}'}</td>"
    )


def figures(columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """Return a table of figures; the first row is the one that the page is about."""
    head = "".join(f'<th scope="col">{escape(c)}</th>' for c in columns)
    body = "".join(
        "<tr>"
        + f'<th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    below = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll"><table class="figures">{below}<thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def section(title: str, *parts: str) -> str:
    """Return a part of a page; the parts are HTML."""
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph of plain text."""
    return f"<p{f' class={kind!r}' if kind else ''}>{escape(text)}</p>"


def page(title: str, *parts: str) -> str:
    """Return a whole HTML page that needs nothing else."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{''.join(parts)}</main></body></html>\n"
    )


def save(path: Path, text: str) -> None:
    """Write a page or a drawing."""
    path.write_text(text, encoding="utf-8")


CSS = """
:root{color-scheme:light}
*{box-sizing:border-box}
body{margin:0;background:#fff;color:#1a1a1a;font:16px/1.5 system-ui,-apple-system,"Segoe UI",
Roboto,"Liberation Sans",sans-serif}
main{max-width:910px;margin:0 auto;padding:20px 24px 48px}
h1{font-size:1.7rem;line-height:1.2;margin:.4em 0}
h2{font-size:1.2rem;margin:2em 0 .3em}
p{margin:.5em 0;max-width:46em}
.callout{border-left:5px solid #D55E00;background:#fff4ec;padding:10px 14px}
.note{color:#444;font-size:.9rem}
figure{margin:12px 0}
svg{display:block;max-width:100%;height:auto;font-size:13px;font-family:inherit}
.legend svg{display:inline-block;vertical-align:middle;margin-right:8px}
svg .label{font-weight:600}
.narrow{display:none}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:4px 22px;margin:6px 0 0;padding:0;
font-size:.9rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.92rem}
caption{caption-side:bottom;text-align:left;color:#444;font-size:.85rem;padding-top:6px}
th,td{padding:5px 12px 5px 0;text-align:right;border-bottom:1px solid #ddd;vertical-align:bottom}
th:first-child{text-align:left;font-weight:500}
thead th{font-weight:600}
.figures tbody tr:first-child>*{font-weight:700;border-bottom:2px solid #555}
.grid th,.grid td{padding:6px 12px}
.grid td{text-align:center;border:1px solid #fff;min-width:64px}
@media(max-width:640px){
main{padding:12px 16px 32px}
h1{font-size:1.35rem}
.wide{display:none}.narrow{display:block}
table{font-size:.8rem}
th,td{padding:5px 7px 5px 0}
.grid th,.grid td{padding:5px 3px}
.grid td{min-width:40px}
}
"""
