"""Arguments and progress that the commands of all packages share."""

import io
from datetime import date, timedelta

import pytest
from django.core.management.base import CommandError

from myometrics_core.command_line import Progress, day_or_age
from myometrics_core.times import utc_now


def test_a_day_or_an_age_is_understood():
    today = utc_now().date()
    assert day_or_age("2025-08-19") == date(2025, 8, 19)
    assert day_or_age("90d") == today - timedelta(days=90)
    assert day_or_age("2y") == today - timedelta(days=732)


@pytest.mark.parametrize("text", ["soon", "-1d", "1e3d", "\u0663d", "999999y", "9999999d", ""])
def test_anything_else_is_refused(text):
    with pytest.raises(CommandError):
        day_or_age(text)


def test_progress_is_drawn_on_a_terminal_and_nowhere_else():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        bar = Progress(stream, 200, "leaves")
        bar._drawn -= 1
        bar.update(100)
        bar.finish()
    assert "50.0%" in terminal.getvalue()
    assert file.getvalue() == ""
