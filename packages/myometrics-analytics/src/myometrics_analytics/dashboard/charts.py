"""Geometry of SVG column charts for a template, without scripts or style attributes.

Horizontal positions are in per cent of the plot's width, vertical ones in pixels. A chart thus
fits any screen, while its text keeps its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.utils.formats import number_format
from django.utils.translation import gettext as _

TOP: Final = 16
LABEL_SPACE: Final = 24
GAP: Final = 0.24
LINES: Final = 4


@dataclass(frozen=True)
class Point:
    """Name and value of one column; ``short`` is its label on the axis."""

    name: str
    value: int
    short: str = ""


def chart_make(
    slug: str,
    title: str,
    unit: str,
    points: Sequence[Point],
    *,
    height: int = 240,
    max_labels: int = 5,
) -> dict[str, Any]:
    """Lay out ``points`` in ``height`` pixels, with at most ``max_labels`` axis labels.

    Returns the context of ``chart.html``: ``columns`` (``hit_*``: the area that shows the title on
    hover), ``grid`` (horizontal lines and their values), ``labels`` (below the columns; minor ones
    may be hidden on small screens), and the ``points`` for a table.
    """
    base = height - LABEL_SPACE
    step = nice_step(max((point.value for point in points), default=0))
    highest = step * LINES
    return {
        "slug": slug,
        "title": title,
        "summary": _summary(points, unit),
        "height": height,
        "base": _number(base),
        "label_y": _number(height - 6),
        "points": points,
        "columns": [_column(points, at, base, highest) for at in range(len(points))],
        "grid": [_grid_line(step * line, base, highest) for line in range(LINES + 1)],
        "labels": _labels(points, max_labels),
    }


def nice_step(largest: int) -> int:
    """Return the smallest integer 1, 2, 2.5 or 5 × 10ⁿ of which four reach ``largest``."""
    scale = 1
    while True:
        for factor in (1, 2, 2.5, 5):
            step = factor * scale
            if step == int(step) and step * LINES >= largest:
                return int(step)
        scale *= 10


def _summary(points: Sequence[Point], unit: str) -> str:
    total = sum(point.value for point in points)
    if not total:
        return _("No %(unit)s.") % {"unit": unit}
    most = max(points, key=lambda point: point.value)
    return _("%(total)s %(unit)s; most: %(most)s, %(name)s.") % {
        "total": format_number(total),
        "unit": unit,
        "most": format_number(most.value),
        "name": most.name,
    }


def _column(points: Sequence[Point], at: int, base: int, highest: int) -> dict[str, str]:
    slot = 100 / len(points)
    gap = GAP if len(points) <= 120 else 0.12
    height = points[at].value / highest * (base - TOP)
    if points[at].value:
        height = max(height, 1.5)
    return {
        "title": f"{points[at].name}: {format_number(points[at].value)}",
        "x": _per_cent(at * slot + slot * gap / 2),
        "width": _per_cent(slot * (1 - gap)),
        "y": _number(base - height),
        "height": _number(height),
        "hit_x": _per_cent(at * slot),
        "hit_width": _per_cent(slot),
    }


def _grid_line(value: int, base: int, highest: int) -> dict[str, str]:
    y = round(base - value / highest * (base - TOP))
    return {"y": _number(y + 0.5), "label": format_number(value), "label_y": _number(y + 4)}


def _labels(points: Sequence[Point], most: int) -> list[dict[str, Any]]:
    slot = 100 / len(points) if points else 0
    is_dense = len(points) > 2 * most  # columns are too narrow for centred labels
    labelled = list(range(len(points)))
    if len(points) > most:
        last, gaps = len(points) - 1, most - 1
        labelled = sorted({round(position * last / gaps) for position in range(most)})
    labels = []
    for position, at in enumerate(labelled):
        x, anchor = (at + 0.5) * slot, "middle"
        if is_dense and at in (0, len(points) - 1):
            x, anchor = (0, "start") if at == 0 else (100, "end")
        is_minor = len(labelled) > 5 and position % 2 == 1
        text = points[at].short or points[at].name
        labels.append({"x": _per_cent(x), "anchor": anchor, "text": text, "is_minor": is_minor})
    return labels


def _per_cent(value: float) -> str:
    return f"{value:.4f}%"


def _number(value: float) -> str:
    return f"{value:.1f}"


def format_number(value: float, decimals: int = 0) -> str:
    """Format ``value`` with the separators of the active language."""
    return number_format(value, decimals, force_grouping=True)
