"""Lasting changes of health are published once."""

from datetime import datetime, timedelta, timezone

import pytest

from myometrics_core.events import bus, register_receiver
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
def published(monkeypatch):
    """The events that are published, in order."""
    published = []
    monkeypatch.setattr(bus, "_receivers", {})
    register_receiver("test", published.append, resource_types={"system"})
    return published


def at(seconds, *down):
    """Record a report with the services ``down`` at ``second``."""
    services = {name: "down" if name in down else "up" for name in SERVICES}
    report = HealthReport(status_of(services), services, START + timedelta(seconds=seconds))
    return health_record(report=report)


def every_twenty_seconds(start, end, *down):
    for second in range(start, end, 20):
        at(second, *down)


def actions(published):
    return [event.action for event in published]


def test_healthy_state_is_not_published(published):
    every_twenty_seconds(0, 600)
    assert published == []
    state = HealthState.objects.get()
    assert (state.status, state.services["redis"]) == ("healthy", "up")
    assert state.checked_at == START + timedelta(seconds=580)


def test_outage_and_recovery_are_published_after_a_minute(published):
    every_twenty_seconds(0, 300, "redis")
    assert actions(published) == ["system_degraded"]
    assert published[0].occurred_at == START + timedelta(seconds=60)
    every_twenty_seconds(300, 600)
    assert actions(published) == ["system_degraded", "system_recovered"]
    assert published[1].occurred_at == START + timedelta(seconds=360)


def test_event_has_status_and_services(published):
    every_twenty_seconds(0, 80, "redis")
    event = published[0]
    assert (event.source, event.actor_id) == ("health", None)
    assert (event.resource_type, event.resource_id) == ("system", "health")
    assert event.details == {
        "status": "degraded",
        "previous_status": "healthy",
        "services": {**dict.fromkeys(SERVICES, "up"), "redis": "down"},
    }


def test_change_of_under_a_minute_is_not_published(published):
    every_twenty_seconds(0, 60, "redis")
    every_twenty_seconds(60, 200)
    assert published == []
    every_twenty_seconds(200, 300, "redis")
    every_twenty_seconds(300, 360)
    every_twenty_seconds(360, 600, "redis")
    assert actions(published) == ["system_degraded"]


def test_short_outages_do_not_add_up(published):
    for second in range(0, 1200, 40):
        at(second, "redis")
        at(second + 20)
    assert published == []


def test_further_outage_is_published_but_not_partial_recovery(published):
    every_twenty_seconds(0, 100, "redis")
    every_twenty_seconds(100, 300, "redis", "email")
    assert actions(published) == ["system_degraded", "system_degraded"]
    every_twenty_seconds(300, 500, "redis")
    assert len(published) == 2
    every_twenty_seconds(500, 700)
    assert actions(published)[2:] == ["system_recovered"]
    assert published[2].details["status"] == "healthy"


def test_database_outage_is_down_not_degraded(published):
    every_twenty_seconds(0, 100, "database")
    assert actions(published) == ["system_down"]
    every_twenty_seconds(100, 300, "redis")
    assert actions(published)[1:] == ["system_degraded"]
    assert published[-1].details["previous_status"] == "down"


def test_unregistered_service_is_removed_from_state(published):
    every_twenty_seconds(0, 100, "redis")
    services = {"database": "up"}
    health_record(report=HealthReport("healthy", services, START + timedelta(seconds=120)))
    every_twenty_seconds(140, 400)
    assert actions(published) == ["system_degraded"]


def test_older_report_is_ignored(published):
    at(100)
    assert at(0, "redis") is None
    assert HealthState.objects.get().status == "healthy"


def test_outage_is_published_after_the_clock_was_set_back(published):
    every_twenty_seconds(3600, 3660, "email")
    every_twenty_seconds(0, 100, "email")
    assert actions(published) == ["system_degraded"]
    assert HealthState.objects.get().checked_at == START + timedelta(seconds=80)


def test_settle_time_is_a_setting(published, settings):
    settings.MYOMETRICS = {"HEALTH_SETTLE": 10}
    at(0, "email")
    at(10, "email")
    assert actions(published) == ["system_degraded"]


@pytest.mark.django_db(transaction=True)
def test_concurrent_checks_publish_change_once(published, run_concurrently):
    at(0, "redis")
    outcomes = run_concurrently([lambda: at(60, "redis")] * 8)
    assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []
    assert actions(published) == ["system_degraded"]


@pytest.mark.django_db(transaction=True)
def test_health_check_runs_every_probe_and_records_result(monkeypatch, published):
    class Broken(HealthProbe):
        name = "broken"

        def run(self):
            raise OSError

    monkeypatch.setattr(health, "_runners", {})
    register_probe(Broken())
    CheckHealth().run(Job())
    assert HealthState.objects.get().status == "degraded"
    assert HealthState.objects.get().services == {"broken": "down"}
