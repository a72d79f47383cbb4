"""Content of the dashboard, built from the API's response."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.utils.dateformat import format as date_format
from django.utils.formats import number_format
from django.utils.translation import gettext as _

from myometrics_core.personal_data import spreadsheet_safe

from ..conf import analytics_settings
from ..filters import Filters, user_field
from ..models import DailyRollup
from ..periods import Span, utc_today
from .charts import Chart, Point, chart_make

__all__ = ["DashboardPage", "FilterChoice", "csv_text", "dashboard_make", "filter_choices"]

MAX_CHOICES: Final = 200
SIGNS: Final = {"up": "▲", "down": "▼", "stable": "■"}


@dataclass(frozen=True)
class Tile:
    """A single number with label and note."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class DiagnosisRow:
    """One diagnosis: count, bar length in per cent of the most frequent diagnosis, trend."""

    name: str
    count: str
    bar: str
    trend: str
    trend_name: str
    sign: str
    change: str


@dataclass(frozen=True)
class FilterChoice:
    """A filter available on this site: query parameter, options and selected value."""

    name: str
    label: str
    options: list[tuple[str, str]]
    chosen: str


@dataclass(frozen=True)
class DashboardPage:
    """Content of the page."""

    period: str
    tiles: list[Tile]
    daily: Chart
    weekly: Chart
    monthly: Chart
    diagnoses: list[DiagnosisRow]


def dashboard_make(report: dict[str, Any], *, days: int) -> DashboardPage:
    """Format ``report`` (the body of ``GET /analytics/`` for ``days``) for display."""
    uploads, unit = report["user_activity"], _("uploads")
    span = Span(utc_today(), days)
    daily, monthly = _days(uploads["daily_uploads"]), _months(uploads["monthly_uploads"])
    weekly = _weeks(uploads["weekly_uploads"], span)
    return DashboardPage(
        period=f"{_long(span.start)} – {_long(span.today)}, UTC",
        tiles=_tiles(report, days),
        daily=chart_make("daily", _("Uploads a day"), unit, daily, height=260, max_labels=7),
        weekly=chart_make("weekly", _("Uploads a week"), unit, weekly),
        monthly=chart_make("monthly", _("Uploads a month"), unit, monthly),
        diagnoses=_diagnoses(report["diagnosis_trends"]),
    )


def _tiles(report: dict[str, Any], days: int) -> list[Tile]:
    health = report["system_health"]
    uploads = sum(row["count"] for row in report["user_activity"]["daily_uploads"])
    span = _("today") if days == 1 else _("in %(days)s days") % {"days": _number(days)}
    success, seconds = health["success_rate"], health["average_processing_time"]
    return [
        Tile(_("Uploads"), _number(uploads), span),
        Tile(_("Success rate"), f"{_number(success, 1)} %", _("of finished uploads")),
        Tile(_("Processing time"), f"{_number(seconds, 1)} s", _("on average")),
        Tile(_("Active users"), _number(health["active_users"]), _("signed in or uploaded")),
        Tile(_("All uploads"), _number(health["total_uploads"]), _("since the beginning")),
    ]


def _days(rows: list[dict[str, Any]]) -> list[Point]:
    short = "M Y" if len(rows) > 120 else "j M"
    days = [(date.fromisoformat(row["date"]), row["count"]) for row in rows]
    return [Point(_long(day), count, date_format(day, short)) for day, count in days]


def _weeks(rows: list[dict[str, Any]], span: Span) -> list[Point]:
    points = []
    for number, (row, week) in enumerate(zip(rows, span.weeks(), strict=True), start=1):
        name = _("Week %d") % number
        dates = f"{date_format(week[0], 'j M')} – {_long(week[-1])}"
        points.append(Point(f"{name}, {dates}", row["count"], name))
    return points


def _months(rows: list[dict[str, Any]]) -> list[Point]:
    months = [(date.fromisoformat(f"{row['month']}-01"), row["count"]) for row in rows]
    return [
        Point(date_format(month, "M Y"), count, date_format(month, "M ’y"))
        for month, count in months
    ]


def _diagnoses(trends: list[dict[str, Any]]) -> list[DiagnosisRow]:
    names = {"up": _("up"), "down": _("down"), "stable": _("stable")}
    most = max((row["count"] for row in trends), default=1)
    return [
        DiagnosisRow(
            name=row["diagnosis"],
            count=_number(row["count"]),
            bar=f"{row['count'] / most * 100:.2f}%",
            trend=row["trend"],
            trend_name=names[row["trend"]],
            sign=SIGNS[row["trend"]],
            change=_change(row["percentage_change"]),
        )
        for row in trends
    ]


def _change(per_cent: float) -> str:
    return f"{'−' if per_cent < 0 else '+'}{_number(abs(per_cent), 1)} %"


def _long(day: date) -> str:
    return date_format(day, "j M Y")


def _number(value: float, decimals: int = 0) -> str:
    """Format ``value`` with the separators of the active language."""
    return number_format(value, decimals, force_grouping=True)


def filter_choices(filters: Filters) -> list[FilterChoice]:
    """Return the filters available on this site, with their options."""
    choices = []
    for name, label, field_name in (
        ("clinic", _("Clinic"), analytics_settings.CLINIC_FIELD),
        ("role", _("Role"), analytics_settings.ROLE_FIELD),
    ):
        if user_field(field_name) is not None:
            choices.append(_choice(name, label, _user_options(field_name), filters))
    names = DailyRollup.objects.exclude(diagnosis="").order_by("diagnosis")
    found = names.values_list("diagnosis", flat=True).distinct()[:MAX_CHOICES]
    options = [(name, name) for name in found]
    return [*choices, _choice("diagnosis", _("Diagnosis"), options, filters)]


def _choice(
    name: str, label: str, options: list[tuple[str, str]], filters: Filters
) -> FilterChoice:
    """Build a choice; add the selected value if the limited options lack it."""
    chosen = getattr(filters, name) or ""
    if chosen and chosen not in dict(options):
        options = [*options, (chosen, chosen)]
    return FilterChoice(name, label, options, chosen)


def _user_options(field_name: str) -> list[tuple[str, str]]:
    field = user_field(field_name)
    if field is not None and field.choices:
        return [(str(value), str(label)) for value, label in field.flatchoices]
    users = get_user_model()._base_manager.order_by(field_name)
    values = users.values_list(field_name, flat=True).distinct()[:MAX_CHOICES]
    return [(str(value), str(value)) for value in values if value not in (None, "")]


def csv_text(report: dict[str, Any]) -> str:
    """Format ``report`` as CSV: ``section,name,value,trend,percentage_change``."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["section", "name", "value", "trend", "percentage_change"])
    for section, rows in report["user_activity"].items():
        writer.writerows([section, *row.values(), "", ""] for row in rows)
    for row in report["diagnosis_trends"]:
        name = spreadsheet_safe(row["diagnosis"])
        trend = row["count"], row["trend"], row["percentage_change"]
        writer.writerow(["diagnosis_trends", name, *trend])
    for item in report["system_health"].items():
        writer.writerow(["system_health", *item, "", ""])
    return text.getvalue()
