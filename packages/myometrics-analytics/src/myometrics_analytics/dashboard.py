"""What the dashboard shows, made from the very answer of the API."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from django.contrib.auth import get_user_model

from myometrics_core.export_files import spreadsheet_safe

from .charts import Chart, Point, chart_make
from .conf import analytics_settings
from .filters import Filters, person_field
from .models import DailyRollup
from .periods import Span, utc_today

__all__ = ["Dashboard", "FilterChoice", "csv_text", "dashboard_make", "filter_choices"]

MOST_CHOICES: Final = 200
SIGNS: Final = {"up": "▲", "down": "▼", "stable": "■"}
MONTHS: Final = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


@dataclass(frozen=True)
class Tile:
    """One number in large print."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class DiagnosisRow:
    """One diagnosis: its count, its bar in per cent of the most frequent, and its trend."""

    name: str
    count: str
    bar: str
    trend: str
    sign: str
    change: str


@dataclass(frozen=True)
class FilterChoice:
    """A filter that the site's data offers: its parameter, its options and the chosen one."""

    name: str
    label: str
    options: list[tuple[str, str]]
    chosen: str


@dataclass(frozen=True)
class Dashboard:
    """The whole page."""

    period: str
    tiles: list[Tile]
    daily: Chart
    weekly: Chart
    monthly: Chart
    diagnoses: list[DiagnosisRow]


def dashboard_make(report: dict[str, Any], *, days: int) -> Dashboard:
    """Lay out ``report`` (the body of ``GET /analytics/`` for ``days``) for people."""
    activity = report["user_activity"]
    span = Span(utc_today(), days)
    return Dashboard(
        period=f"{_long(span.start)} – {_long(span.today)}, UTC",
        tiles=_tiles(report, days),
        daily=chart_make(
            "daily", "Uploads a day", "uploads", _days(activity), height=260, most_labels=7
        ),
        weekly=chart_make("weekly", "Uploads a week", "uploads", _weeks(activity, span)),
        monthly=chart_make("monthly", "Uploads a month", "uploads", _months(activity)),
        diagnoses=_diagnoses(report["diagnosis_trends"]),
    )


def _tiles(report: dict[str, Any], days: int) -> list[Tile]:
    health = report["system_health"]
    uploads = sum(row["count"] for row in report["user_activity"]["daily_uploads"])
    spans = "today" if days == 1 else f"in {days:,} days"
    return [
        Tile("Uploads", f"{uploads:,}", spans),
        Tile("Success rate", f"{health['success_rate']:.1f} %", "of finished uploads"),
        Tile("Processing time", f"{health['average_processing_time']:.1f} s", "on average"),
        Tile("Active people", f"{health['active_users']:,}", "signed in or uploaded"),
        Tile("All uploads", f"{health['total_uploads']:,}", "since the beginning"),
    ]


def _days(activity: dict[str, Any]) -> list[Point]:
    days = [(date.fromisoformat(row["date"]), row["count"]) for row in activity["daily_uploads"]]
    is_long = len(days) > 120
    return [
        Point(_long(day), count, _month(day) if is_long else f"{day.day} {MONTHS[day.month - 1]}")
        for day, count in days
    ]


def _weeks(activity: dict[str, Any], span: Span) -> list[Point]:
    points = []
    for row, week in zip(activity["weekly_uploads"], span.weeks(), strict=True):
        dates = f"{week[0].day} {MONTHS[week[0].month - 1]} – {_long(week[-1])}"
        points.append(Point(f"{row['week']}, {dates}", row["count"], row["week"]))
    return points


def _months(activity: dict[str, Any]) -> list[Point]:
    months = [
        (date.fromisoformat(f"{row['month']}-01"), row["count"])
        for row in activity["monthly_uploads"]
    ]
    return [
        Point(_month(month), count, f"{MONTHS[month.month - 1]} ’{month.year % 100:02}")
        for month, count in months
    ]


def _diagnoses(trends: list[dict[str, Any]]) -> list[DiagnosisRow]:
    most = max((row["count"] for row in trends), default=1)
    return [
        DiagnosisRow(
            name=row["diagnosis"],
            count=f"{row['count']:,}",
            bar=f"{row['count'] / most * 100:.2f}%",
            trend=row["trend"],
            sign=SIGNS[row["trend"]],
            change=f"{row['percentage_change']:+,.1f} %".replace("-", "−"),
        )
        for row in trends
    ]


def _long(day: date) -> str:
    return f"{day.day} {_month(day)}"


def _month(day: date) -> str:
    return f"{MONTHS[day.month - 1]} {day.year}"


def filter_choices(filters: Filters) -> list[FilterChoice]:
    """The filters that make sense on this site, each with what there is to choose from."""
    choices = []
    for name, field_name in (
        ("clinic", analytics_settings.CLINIC_FIELD),
        ("role", analytics_settings.ROLE_FIELD),
    ):
        if person_field(field_name) is not None:
            options = _person_options(field_name)
            chosen = getattr(filters, name) or ""
            choices.append(FilterChoice(name, name.capitalize(), options, chosen))
    names = DailyRollup.objects.exclude(diagnosis="").order_by("diagnosis")
    found = names.values_list("diagnosis", flat=True).distinct()[:MOST_CHOICES]
    options = [(name, name) for name in found]
    return [*choices, FilterChoice("diagnosis", "Diagnosis", options, filters.diagnosis or "")]


def _person_options(field_name: str) -> list[tuple[str, str]]:
    field = person_field(field_name)
    if field is not None and field.choices:
        return [(str(value), str(label)) for value, label in field.flatchoices]
    people = get_user_model()._base_manager.order_by(field_name)
    values = people.values_list(field_name, flat=True).distinct()[:MOST_CHOICES]
    return [(str(value), str(value)) for value in values if value not in (None, "")]


def csv_text(report: dict[str, Any]) -> str:
    """``report`` as one table: ``section,name,value,trend,percentage_change``."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["section", "name", "value", "trend", "percentage_change"])
    writer.writerows(_csv_rows(report))
    return text.getvalue()


def _csv_rows(report: dict[str, Any]) -> Iterator[list[Any]]:
    for section, rows in report["user_activity"].items():
        for row in rows:
            name, count = row.values()
            yield [section, name, count, "", ""]
    for row in report["diagnosis_trends"]:
        name = spreadsheet_safe(row["diagnosis"])
        yield ["diagnosis_trends", name, row["count"], row["trend"], row["percentage_change"]]
    for name, value in report["system_health"].items():
        yield ["system_health", name, value, "", ""]
