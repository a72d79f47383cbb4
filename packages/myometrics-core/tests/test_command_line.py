"""Arguments and progress that the commands of all packages share."""

import io
from datetime import date, timedelta

import pytest
from django.core.management.base import CommandError

from myometrics_core.management.command_line import Progress, day_or_age
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


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_drawn_on_a_terminal_and_nowhere_else():
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        bar = Progress(stream, 200, "leaves")
        bar.update(100)
        bar.finish()
    assert "50.0%  100 leaves" in terminal.getvalue()
    assert file.getvalue() == ""


def test_progress_of_which_only_a_share_is_known_says_what_it_is_of():
    terminal = Terminal()
    Progress(terminal).show(0.25, "history: 2,000 activities")
    assert f"[{'#' * 7:<30}]  25.0%  history: 2,000 activities" in terminal.getvalue()


def test_progress_leaves_nothing_of_itself_on_the_terminal():
    terminal = Terminal()
    bar = Progress(terminal)
    bar.show(0.25, "history")
    drawn = terminal.getvalue().removeprefix("\r")
    bar.finish()
    assert terminal.getvalue() == f"\r{drawn}\r{' ' * len(drawn)}\r"
