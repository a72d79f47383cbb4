"""Folding, the self-check and the rebuild: the rollups equal the facts."""

from __future__ import annotations

import io
import logging
import random
import re
from datetime import date, datetime, timedelta, timezone

import pytest
from conftest import make_event
from counting_one_by_one import assert_rollups_equal_facts, report_one_by_one
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import DatabaseError, connection

from myometrics_analytics.models import (
    DailyRollup,
    DayRollup,
    PendingChange,
    RebuildCheckpoint,
    RollupState,
    Upload,
    UserRollup,
)
from myometrics_analytics.rollups import changes_fold, rebuild_run, rollups_check
from myometrics_analytics.selectors import report_get
from myometrics_core.events import Event, bus, publish, register_source

pytestmark = pytest.mark.django_db
ACTIONS = ["upload_created", "upload_completed", "upload_failed", "analysis_ready"]


@pytest.fixture
def busy_site(make_user, merge_events):
    """Four users with some 200 events, a part of them folded."""
    chance = random.Random(7)
    users = [make_user() for _ in range(4)]
    events = [
        make_event(
            chance.choice(users),
            chance.choice(ACTIONS),
            f"u{chance.randrange(60)}",
            datetime.now(timezone.utc) - timedelta(days=chance.randrange(90)),
            diagnosis=chance.choice(["Normal", "Infarction", None]),
            processing_time=chance.choice([1.25, 60, None]),
        )
        for _ in range(200)
    ]
    merge_events(events[:150])
    changes_fold()
    merge_events(events[150:])
    return users


def test_folding_does_not_change_the_report(busy_site):
    before = [report_get(days=days) for days in (1, 30, 90, 3650)]
    assert before == [report_one_by_one(days) for days in (1, 30, 90, 3650)]
    assert changes_fold() > 0
    assert [report_get(days=days) for days in (1, 30, 90, 3650)] == before
    assert_rollups_equal_facts()
    assert changes_fold() == 0


def test_fold_in_small_batches_gives_the_same_rollups(busy_site, settings):
    settings.MYOMETRICS_ANALYTICS = {"FOLD_BATCH": 3}
    changes_fold()
    assert not PendingChange.objects.exists()
    assert_rollups_equal_facts()


def test_self_check_finds_no_differences(busy_site, caplog):
    with caplog.at_level(logging.INFO, "myometrics.analytics.self_check"):
        assert rollups_check() == 0
        changes_fold()
        assert rollups_check() == 0
    assert "equal to the facts" in caplog.text
    assert RollupState.objects.get().checked_at is not None


def spoil_daily():
    DailyRollup.objects.update(uploads=5)


def spoil_days():
    DayRollup.objects.update(completed=7, uploaders=9)


def spoil_users():
    UserRollup.objects.update(uploads=0, last_day=date(2020, 1, 1))


def spoil_total():
    RollupState.objects.update(uploads=1)


def lose_rollups():
    for model in (DailyRollup, DayRollup, UserRollup, RollupState):
        model.objects.all().delete()


def lose_pending():
    PendingChange.objects.all().delete()


def lose_facts():
    Upload.objects.filter(status="completed").delete()


@pytest.mark.parametrize("is_folded", [True, False])
@pytest.mark.parametrize(
    "spoil",
    [
        spoil_daily,
        spoil_days,
        spoil_users,
        spoil_total,
        lose_rollups,
        lose_pending,
        lose_facts,
    ],
)
def test_self_check_repairs_and_logs_differences(busy_site, caplog, spoil, is_folded):
    if is_folded:
        changes_fold()
    spoil()
    repairs = rollups_check()
    if spoil is not lose_pending or not is_folded:
        assert repairs > 0
        assert "repaired" in caplog.text
    assert [report_get(days=days) for days in (1, 30, 90)] == [
        report_one_by_one(days) for days in (1, 30, 90)
    ]
    changes_fold()
    assert rollups_check() == 0
    assert_rollups_equal_facts()


def test_check_command_prints_result(busy_site, capsys):
    changes_fold()
    call_command("analytics_check")
    assert "equals the facts" in capsys.readouterr().out
    spoil_total()
    call_command("analytics_check")
    assert "Repaired 1" in capsys.readouterr().out


def test_rollups_equal_facts_after_deletion_of_users(busy_site):
    changes_fold()
    busy_site[0].delete()
    get_user_model().objects.filter(pk=busy_site[1].pk).delete()
    assert report_get(days=90) == report_one_by_one(90)
    changes_fold()
    assert rollups_check() == 0
    assert_rollups_equal_facts()


@pytest.fixture
def history(make_user):
    """A source that replays 5,000 events, and counts the replayed ones."""
    users = [make_user() for _ in range(5)]
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)

    class History:
        replayed = 0
        breaks_at = 10**9

        def replay(self):
            for number in range(5000):
                if number == self.breaks_at:
                    raise KeyboardInterrupt
                self.replayed += 1
                yield Event(
                    id=f"history:{number}",
                    actor_id=users[number % 5].pk if number % 11 else None,
                    action=ACTIONS[number % 4],
                    resource_type="upload" if number % 7 else "report",
                    resource_id=f"u{number // 3}",
                    occurred_at=start + timedelta(minutes=number),
                    details={"diagnosis": f"D{number % 6}"},
                )

    source = History()
    register_source("history", source.replay)
    yield source
    bus._sources.pop("history")


def facts():
    names = [field.attname for field in Upload._meta.fields if field.name != "id"]
    return sorted(map(str, Upload.objects.values_list(*names)))


def test_rebuild_restores_the_same_facts(history, capsys):
    call_command("analytics_rebuild")
    first, answer = facts(), report_get(days=3650)
    assert len(first) > 1000
    assert_rollups_equal_facts()
    call_command("analytics_rebuild")
    assert facts() == first
    assert report_get(days=3650) == answer
    call_command("analytics_rebuild", "--clear")
    assert facts() == first
    assert report_get(days=3650) == answer == report_one_by_one(3650)
    assert "Replayed 5000 events" in capsys.readouterr().out


def test_command_in_log_message_recovers_missed_event(history, caplog):
    def refuse(execute, sql, *args):
        if "INSERT" in sql and Upload._meta.db_table in sql:
            raise DatabaseError("disk full")
        return execute(sql, *args)

    missed = list(history.replay())[4]
    with connection.execute_wrapper(refuse):
        publish(missed)
    assert not Upload.objects.exists()
    [line] = [text for text in caplog.messages if "Receiver myometrics_analytics failed" in text]
    _, command = line.split("run: manage.py ")
    call_command(command)
    assert Upload.objects.filter(upload_id=missed.resource_id).exists()


def test_interrupted_rebuild_resumes(history, capsys):
    rebuild_run()
    whole = facts()
    Upload.objects.all().delete()
    rollups_check()
    history.breaks_at = 4500
    with pytest.raises(KeyboardInterrupt):
        rebuild_run()
    assert RebuildCheckpoint.objects.get().activities == 4000
    merged = Upload.objects.count()
    assert 0 < merged < len(whole)
    history.breaks_at = 10**9
    call_command("analytics_rebuild")
    output = capsys.readouterr()
    assert "Resuming" in output.out
    assert "Replayed 1001 events" in output.out
    assert facts() == whole
    assert not RebuildCheckpoint.objects.exists()
    assert_rollups_equal_facts()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_rebuild_shows_progress_on_a_terminal(history, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    call_command("analytics_rebuild")
    assert re.search(r"\[[# ]{30}\] +[\d.]+%  history: 2,000 events", terminal.getvalue())


@pytest.mark.parametrize("command", ["analytics_rebuild", "analytics_check"])
def test_command_without_terminal_prints_only_the_result(history, capsys, command):
    call_command(command)
    output = capsys.readouterr()
    assert output.err == ""
    assert len(output.out.splitlines()) == 1


def test_rebuild_can_be_restarted(history, capsys):
    history.breaks_at = 3000
    with pytest.raises(KeyboardInterrupt):
        rebuild_run()
    history.breaks_at = 10**9
    call_command("analytics_rebuild", "--restart")
    assert "Replayed 5000 events" in capsys.readouterr().out


def test_report_is_the_same_with_prepared_statements(
    busy_site, database_vendor, make_user, publish_upload
):
    connection.ensure_connection()
    if database_vendor == "postgresql":
        connection.connection.prepare_threshold = 2
    for _ in range(6):
        publish_upload(make_user(), diagnosis="Normal")
        for days in (1, 30, 365):
            assert report_get(days=days) == report_one_by_one(days)
    if database_vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_prepared_statements")
            assert cursor.fetchone()[0] >= 1
