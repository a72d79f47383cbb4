"""A change of health is published once it has lasted, once, for the worse and back."""

from datetime import datetime, timedelta, timezone

import pytest

from myometrics_core.events import bus as activities
from myometrics_core.events import register_receiver
from myometrics_core.health import HealthProbe, HealthReport, register_probe
from myometrics_core.health import report as health
from myometrics_core.health.report import status_of
from myometrics_core.health_log.models import HealthState
from myometrics_core.health_log.services import health_record
from myometrics_core.jobs import Job
from myometrics_core.recurring_jobs import CheckHealth

pytestmark = pytest.mark.django_db

START = datetime(2026, 1, 5, 8, 0, tzinfo=timezone.utc)
SERVICES = ("database", "redis", "email", "microservice")


@pytest.fixture
def told(monkeypatch):
    """The activities that are published, in order."""
    published = []
    monkeypatch.setattr(activities, "_receivers", {})
    register_receiver("test", published.append, resource_types={"system"})
    return published


def at(seconds, *down):
    """Record that ``down`` were down at that second."""
    services = {name: "down" if name in down else "up" for name in SERVICES}
    report = HealthReport(status_of(services), services, START + timedelta(seconds=seconds))
    return health_record(report=report)


def every_twenty_seconds(start, end, *down):
    for second in range(start, end, 20):
        at(second, *down)


def actions(told):
    return [activity.action for activity in told]


def test_what_stays_well_is_not_told(told):
    every_twenty_seconds(0, 600)
    assert told == []
    state = HealthState.objects.get()
    assert (state.status, state.services["redis"]) == ("healthy", "up")
    assert state.checked_at == START + timedelta(seconds=580)


def test_an_outage_is_told_once_after_a_minute_and_its_end_after_another(told):
    every_twenty_seconds(0, 300, "redis")
    assert actions(told) == ["system_degraded"]
    assert told[0].occurred_at == START + timedelta(seconds=60)
    every_twenty_seconds(300, 600)
    assert actions(told) == ["system_degraded", "system_recovered"]
    assert told[1].occurred_at == START + timedelta(seconds=360)


def test_the_activity_says_what_is_known(told):
    every_twenty_seconds(0, 80, "redis")
    activity = told[0]
    assert (activity.source, activity.actor_id) == ("health", None)
    assert (activity.resource_type, activity.resource_id) == ("system", "health")
    assert activity.details == {
        "status": "degraded",
        "previous_status": "healthy",
        "services": {**dict.fromkeys(SERVICES, "up"), "redis": "down"},
    }


def test_a_flap_of_under_a_minute_is_not_told_for_the_worse_nor_for_the_better(told):
    every_twenty_seconds(0, 60, "redis")
    every_twenty_seconds(60, 200)
    assert told == []
    every_twenty_seconds(200, 300, "redis")
    every_twenty_seconds(300, 360)
    every_twenty_seconds(360, 600, "redis")
    assert actions(told) == ["system_degraded"]


def test_many_short_flaps_never_add_up(told):
    for second in range(0, 1200, 40):
        at(second, "redis")
        at(second + 20)
    assert told == []


def test_a_further_outage_is_told_and_a_partial_end_is_not(told):
    every_twenty_seconds(0, 100, "redis")
    every_twenty_seconds(100, 300, "redis", "email")
    assert actions(told) == ["system_degraded", "system_degraded"]
    every_twenty_seconds(300, 500, "redis")
    assert len(told) == 2
    every_twenty_seconds(500, 700)
    assert actions(told)[2:] == ["system_recovered"]
    assert told[2].details["status"] == "healthy"


def test_the_database_is_down_not_degraded(told):
    every_twenty_seconds(0, 100, "database")
    assert actions(told) == ["system_down"]
    every_twenty_seconds(100, 300, "redis")
    assert actions(told)[1:] == ["system_degraded"]
    assert told[-1].details["previous_status"] == "down"


def test_a_service_that_is_no_longer_asked_leaves_no_trace(told):
    every_twenty_seconds(0, 100, "redis")
    services = {"database": "up"}
    health_record(report=HealthReport("healthy", services, START + timedelta(seconds=120)))
    every_twenty_seconds(140, 400)
    assert actions(told) == ["system_degraded"]


def test_a_report_that_comes_late_is_left_out(told):
    at(100)
    assert at(0, "redis") is None
    assert HealthState.objects.get().status == "healthy"


def test_how_long_a_change_must_last_is_a_setting(told, settings):
    settings.MYOMETRICS = {"HEALTH_SETTLE": 10}
    at(0, "email")
    at(10, "email")
    assert actions(told) == ["system_degraded"]


@pytest.mark.django_db(transaction=True)
def test_workers_that_check_at_the_same_time_tell_it_once(told, run_concurrently):
    at(0, "redis")
    outcomes = run_concurrently([lambda: at(60, "redis")] * 8)
    assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []
    assert actions(told) == ["system_degraded"]


@pytest.mark.django_db(transaction=True)
def test_the_task_asks_every_probe_and_records_the_result(monkeypatch, told):
    class Broken(HealthProbe):
        name = "broken"

        def run(self):
            raise OSError

    monkeypatch.setattr(health, "_runners", {})
    register_probe(Broken())
    CheckHealth().run(Job())
    assert HealthState.objects.get().status == "degraded"
    assert HealthState.objects.get().services == {"broken": "down"}
