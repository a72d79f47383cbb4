"""The metrics of a running site: of all its processes, for Prometheus alone."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from api_routes import all_routes
from prometheus_client.parser import text_string_to_metric_families
from running_site import PROJECT, RunningSite

from myometrics_core.observability.metrics import registered_gauges

pytestmark = pytest.mark.any_database

OPERATIONS = PROJECT.parent / "docs" / "operations"
TOKEN = "of-prometheus-alone"
OPT_IN = {
    "myometrics_checkpoint_lag_seconds",
    "myometrics_partitions_ahead",
    "myometrics_stream_failing_seconds",
}
"""Gauges that a variable or another app switches on; other tests read them."""


@pytest.fixture
def site(tmp_path):
    running = RunningSite(tmp_path, f"sqlite:///{tmp_path / 'site.sqlite3'}", None)
    running.environment |= {"METRICS_TOKEN": TOKEN, "WEB_CONCURRENCY": "3"}
    try:
        running.start()
        yield running
    finally:
        running.stop()


def metrics_of(site):
    answer = site.get("/metrics", Authorization=f"Bearer {TOKEN}")
    assert answer.status_code == 200
    return list(text_string_to_metric_families(answer.text))


def test_metrics_count_all_processes_and_have_all_gauges(site):
    assert site.get("/metrics").status_code == 401
    for _ in range(60):
        assert site.get("/api/health/").status_code == 401
    families = metrics_of(site)
    labels = {"method": "GET", "endpoint": "/api/health/", "status": "401"}
    counted = [s.value for f in families for s in f.samples if s.labels == labels]
    assert counted == [60]
    processes = set(re.findall(r"Booting worker with pid: (\d+)", site.log))
    assert len(processes) == 3
    names = {family.name for family in families}
    assert {
        "myometrics_jobs_age_seconds",
        "myometrics_jobs_pending",
        "myometrics_seal_lag_seconds",
        "myometrics_pending_changes",
    } <= names


def names_that_exist():
    requests = {"myometrics_requests_total"}
    durations = {f"myometrics_request_duration_seconds_{end}" for end in ("bucket", "sum", "count")}
    gauges = {gauge.name for gauge in registered_gauges()} | {"myometrics_queued_tasks"}
    return requests | durations | gauges | OPT_IN


@pytest.mark.parametrize("name", ["alerts.yaml", "dashboard.json"])
def test_alerts_and_dashboard_use_existing_metrics(name):
    text = (OPERATIONS / name).read_text()
    assert set(re.findall(r"myometrics_[a-z_]+", text)) <= names_that_exist()


def test_every_alert_links_to_its_section():
    page = (OPERATIONS / "monitoring.md").read_text()
    (group,) = yaml.safe_load((OPERATIONS / "alerts.yaml").read_text())["groups"]
    rules = group["rules"]
    sections = dict(re.findall(r"^### (\w+)\n\n(\w+)", page, re.MULTILINE))
    assert sections == {rule["alert"]: rule["labels"]["severity"].title() for rule in rules}
    for rule in rules:
        anchor = rule["alert"].lower()
        assert rule["annotations"]["runbook_url"].endswith(f"/operations/monitoring/#{anchor}")


@pytest.mark.parametrize("name", ["alerts.yaml", "dashboard.json"])
def test_alerts_and_dashboard_use_existing_endpoints(name):
    text = (OPERATIONS / name).read_text().replace('\\"', '"')
    for operator, endpoint in re.findall(r'endpoint(=~?)"([^"]+)"', text):
        pattern = endpoint if operator == "=~" else re.escape(endpoint)
        assert any(re.fullmatch(pattern, route.path) for route in all_routes()), endpoint


def test_every_gauge_is_on_the_dashboard():
    panels = json.loads((OPERATIONS / "dashboard.json").read_text())["panels"]
    shown = " ".join(target["expr"] for panel in panels for target in panel["targets"])
    assert [g.name for g in registered_gauges() if g.name not in shown] == []
