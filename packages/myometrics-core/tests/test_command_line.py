"""Arguments and progress bar of management commands."""

import io
from datetime import date, timedelta

import pytest
import time_machine
from django.core.management.base import CommandError

from myometrics_core.management.command_line import Progress, day_or_age
from myometrics_core.times import utc_now


@time_machine.travel(utc_now(), tick=False)
def test_day_and_age_are_parsed():
    today = utc_now().date()
    assert day_or_age("2025-08-19") == date(2025, 8, 19)
    assert day_or_age("90d") == today - timedelta(days=90)
    assert day_or_age("2y") == today - timedelta(days=732)


@pytest.mark.parametrize("text", ["soon", "-1d", "1e3d", "\u0663d", "999999y", "9999999d", ""])
def test_other_text_than_day_or_age_is_rejected(text):
    with pytest.raises(CommandError):
        day_or_age(text)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_drawn_only_on_a_terminal():
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        bar = Progress(stream, 200, "leaves")
        bar.update(100)
        bar.finish()
    assert "50.0%  100 leaves" in terminal.getvalue()
    assert file.getvalue() == ""


def test_progress_shows_share_with_note():
    terminal = Terminal()
    Progress(terminal).show(0.25, "history: 2,000 events")
    assert f"[{'#' * 7:<30}]  25.0%  history: 2,000 events" in terminal.getvalue()


def test_finished_progress_clears_its_line():
    terminal = Terminal()
    bar = Progress(terminal)
    bar.show(0.25, "history")
    drawn = terminal.getvalue().removeprefix("\r")
    bar.finish()
    assert terminal.getvalue() == f"\r{drawn}\r{' ' * len(drawn)}\r"
