"""Metrics of requests and gauges, for Prometheus."""

import math
import os
import time
from datetime import timedelta

import pytest
from celery import Celery
from django.db import OperationalError
from django.test import override_settings
from kombu.exceptions import OperationalError as BrokerError
from prometheus_client.parser import text_string_to_metric_families

from myometrics_core.health import HealthReport
from myometrics_core.health_log.models import HealthState
from myometrics_core.observability import metrics, observe_requests, register_gauge
from myometrics_core.observability.gauges import (
    backup_age_seconds,
    health_check_age_seconds,
    services_up,
)
from myometrics_core.observability.metrics import gauge_values
from myometrics_core.observability.prometheus import connect_prometheus, queued_tasks
from myometrics_core.times import utc_now
from myometrics_testing.waiting import PATIENCE

TOKEN = {"METRICS_TOKEN": "of-prometheus-alone"}
BEARER = {"HTTP_AUTHORIZATION": "Bearer of-prometheus-alone"}


@pytest.fixture(autouse=True)
def _registry_of_this_test():
    gauges, observers = dict(metrics._gauges), dict(metrics._observers)
    yield
    metrics._gauges, metrics._observers = gauges, observers


def samples(text):
    families = text_string_to_metric_families(text)
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_metrics_are_404_if_not_configured(client, db):
    assert client.get("/metrics").status_code == 404


@override_settings(MYOMETRICS=TOKEN)
@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer x", "Basic of-prometheus-alone", "Bearer \xe9"]
)
def test_metrics_need_the_token(client, header):
    answer = client.get("/metrics", HTTP_AUTHORIZATION=header)
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"] == "Bearer"
    assert set(answer.json()) == {"detail", "code", "field_errors"}


@override_settings(MYOMETRICS={"METRICS_NETWORKS": ["10.0.0.0/8", "::1"]})
def test_configured_network_reads_metrics_without_token(client, db):
    assert client.get("/metrics", REMOTE_ADDR="10.1.2.3").status_code == 200
    assert client.get("/metrics", REMOTE_ADDR="11.1.2.3").status_code == 401
    forged = client.get("/metrics", REMOTE_ADDR="11.1.2.3", HTTP_X_FORWARDED_FOR="10.1.2.3")
    assert forged.status_code == 401


@override_settings(MYOMETRICS=TOKEN)
def test_requests_are_counted_by_method_route_and_status(client, db):
    connect_prometheus()
    counted = ("endpoint", "/api/faulty/<str:what>/"), ("method", "GET"), ("status", "404")
    name = ("myometrics_requests_total", *counted)
    before = samples(client.get("/metrics", **BEARER).content.decode()).get(name, 0)
    for _ in range(3):
        client.get("/api/faulty/missing/")
    client.generic("MADE-UP", "/api/faulty/missing/")
    after = samples(client.get("/metrics", **BEARER).content.decode())
    assert after[name] == before + 3
    duration = "myometrics_request_duration_seconds_count"
    assert after[(duration, *counted[:2])] >= 3
    assert not any("MADE-UP" in str(key) for key in after)


@override_settings(MYOMETRICS=TOKEN)
def test_gauge_is_read_at_each_scrape(client, db):
    answers = iter([1.5, None, 2])
    register_gauge("myometrics_test_age_seconds", "An age.", lambda: next(answers))
    seen = [samples(client.get("/metrics", **BEARER).content.decode()) for _ in range(3)]
    assert [look.get(("myometrics_test_age_seconds",)) for look in seen] == [1.5, None, 2.0]


@override_settings(MYOMETRICS=TOKEN)
def test_gauge_with_a_label_has_a_sample_for_each_value(client, db):
    register_gauge("myometrics_test_beds", "Beds.", lambda: {"a": 3, "b": 0}, label="ward")
    seen = samples(client.get("/metrics", **BEARER).content.decode())
    assert seen["myometrics_test_beds", ("ward", "a")] == 3
    assert seen["myometrics_test_beds", ("ward", "b")] == 0


def test_backup_age_is_the_age_of_its_file(settings, tmp_path):
    file = tmp_path / "done"
    settings.MYOMETRICS = {}
    assert backup_age_seconds() is None
    settings.MYOMETRICS = {"BACKUP_FILE": str(file)}
    assert backup_age_seconds() == math.inf
    file.touch()
    os.utime(file, (time.time() - 7200,) * 2)
    assert 7200 <= backup_age_seconds() < 7200 + PATIENCE


def test_health_check_age_is_infinite_before_the_first(db):
    HealthState.objects.all().delete()
    assert health_check_age_seconds() == math.inf
    HealthState.objects.create(pk=1, checked_at=utc_now() - timedelta(hours=2))
    assert 7200 <= health_check_age_seconds() < 7200 + PATIENCE


def test_service_that_is_down_is_0(monkeypatch):
    services = {"database": "up", "redis": "down", "email": "not_configured"}
    report = HealthReport("degraded", services, utc_now())
    monkeypatch.setattr("myometrics_core.observability.gauges.check_health", lambda: report)
    assert services_up() == {"database": 1.0, "redis": 0.0}


def test_failing_gauge_hides_no_other(caplog):
    register_gauge("a_faulty_one", "", lambda: 1 / 0)
    register_gauge("z_good_one", "", lambda: 1)
    values = {gauge.name: value for gauge, value in gauge_values()}
    assert "a_faulty_one" not in values
    assert values["z_good_one"] == 1
    assert "a_faulty_one" in caplog.text


def test_gauges_stop_at_first_database_failure():
    def no_database():
        raise OperationalError

    register_gauge("a_first", "", no_database)
    register_gauge("z_last", "", lambda: pytest.fail("asked"))
    assert list(gauge_values()) == []


@pytest.mark.any_database
@pytest.mark.parametrize("url", ["amqp://127.0.0.1:1//", "redis://127.0.0.1:1/0"])
def test_queue_length_fails_while_the_broker_is_down(url, monkeypatch, settings):
    """The oldest supported kombu retries forever without a limit."""
    broker = Celery(broker=url, set_as_current=False)
    monkeypatch.setattr("celery.current_app", broker)
    settings.MYOMETRICS = {"JOB_RUNNER": "celery"}
    with pytest.raises(BrokerError, match="refused"):
        queued_tasks()


def test_failing_observer_does_not_affect_request(client, db):
    observe_requests("faulty", lambda *args: 1 / 0)
    assert client.get("/api/users/").status_code == 200
