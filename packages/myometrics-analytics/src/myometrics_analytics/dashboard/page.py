"""Content of the dashboard, built from the API's response."""

from __future__ import annotations

import csv
import io
from datetime import date
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.db.models import Field
from django.utils.dateformat import format as date_format
from django.utils.translation import gettext as _

from myometrics_core.personal_data import spreadsheet_safe

from ..conf import analytics_settings
from ..filters import Filters, user_field
from ..models import DailyRollup
from ..periods import Span, utc_today
from .charts import Point, chart_make, format_number

MAX_CHOICES: Final = 200
SIGNS: Final = {"up": "▲", "down": "▼", "stable": "■"}


def dashboard_context(report: dict[str, Any], *, days: int) -> dict[str, Any]:
    """Format ``report`` (the body of ``GET /analytics/`` for ``days``) for the template.

    Returns ``period``, ``tiles`` (label, value, note), the charts ``daily``, ``weekly`` and
    ``monthly``, and ``diagnoses``.
    """
    uploads, unit = report["user_activity"], _("uploads")
    span = Span(utc_today(), days)
    daily, monthly = _days(uploads["daily_uploads"]), _months(uploads["monthly_uploads"])
    weekly = _weeks(uploads["weekly_uploads"], span)
    return {
        "period": f"{_long(span.start)} – {_long(span.today)}, UTC",
        "tiles": _tiles(report, days),
        "daily": chart_make("daily", _("Uploads a day"), unit, daily, height=260, max_labels=7),
        "weekly": chart_make("weekly", _("Uploads a week"), unit, weekly),
        "monthly": chart_make("monthly", _("Uploads a month"), unit, monthly),
        "diagnoses": _diagnoses(report["diagnosis_trends"]),
    }


def _tiles(report: dict[str, Any], days: int) -> list[dict[str, str]]:
    health = report["system_health"]
    uploads = sum(row["count"] for row in report["user_activity"]["daily_uploads"])
    span = _("today") if days == 1 else _("in %(days)s days") % {"days": format_number(days)}
    success, seconds = health["success_rate"], health["average_processing_time"]
    tiles = (
        (_("Uploads"), format_number(uploads), span),
        (_("Success rate"), f"{format_number(success, 1)} %", _("of finished uploads")),
        (_("Processing time"), f"{format_number(seconds, 1)} s", _("on average")),
        (_("Active users"), format_number(health["active_users"]), _("signed in or uploaded")),
        (_("All uploads"), format_number(health["total_uploads"]), _("since the beginning")),
    )
    return [{"label": label, "value": value, "note": note} for label, value, note in tiles]


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


def _diagnoses(trends: list[dict[str, Any]]) -> list[dict[str, str]]:
    names = {"up": _("up"), "down": _("down"), "stable": _("stable")}
    most = max((row["count"] for row in trends), default=1)
    rows = []
    for row in trends:
        trend, change = row["trend"], row["percentage_change"]
        rows.append(
            {
                "name": row["diagnosis"],
                "count": format_number(row["count"]),
                "bar": f"{row['count'] / most * 100:.2f}%",  # length of the most frequent: 100 %
                "trend": trend,
                "trend_name": names[trend],
                "sign": SIGNS[trend],
                "change": f"{'−' if change < 0 else '+'}{format_number(abs(change), 1)} %",
            }
        )
    return rows


def _long(day: date) -> str:
    return date_format(day, "j M Y")


def filter_choices(filters: Filters) -> list[dict[str, Any]]:
    """Return the filters available on this site: ``name``, ``label``, ``options``, ``chosen``."""
    choices = []
    for name, label, field_name in (
        ("clinic", _("Clinic"), analytics_settings.CLINIC_FIELD),
        ("role", _("Role"), analytics_settings.ROLE_FIELD),
    ):
        if (field := user_field(field_name)) is not None:
            choices.append((name, label, _user_options(field)))
    diagnoses = DailyRollup.objects.exclude(diagnosis="").order_by("diagnosis")
    found = diagnoses.values_list("diagnosis", flat=True).distinct()[:MAX_CHOICES]
    choices.append(("diagnosis", _("Diagnosis"), [(diagnosis, diagnosis) for diagnosis in found]))
    context = []
    for name, label, options in choices:
        chosen = getattr(filters, name) or ""
        if chosen and chosen not in dict(options):  # the options are limited
            options.append((chosen, chosen))
        context.append({"name": name, "label": label, "options": options, "chosen": chosen})
    return context


def _user_options(field: Field[Any, Any]) -> list[tuple[str, str]]:
    if field.choices:
        return [(str(value), str(label)) for value, label in field.flatchoices]
    users = get_user_model()._base_manager.order_by(field.name)
    values = users.values_list(field.name, flat=True).distinct()[:MAX_CHOICES]
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
