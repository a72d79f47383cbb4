"""One request through all processes: its id in their logs, its trace in OpenTelemetry.

On SQLite, where threads of the server run jobs, and on PostgreSQL with Redis and Celery's worker.
"""

from __future__ import annotations

import json
import os
import secrets
from contextlib import ExitStack

import httpx
import pytest
from fresh_process import PRODUCTION, deploy_check, python
from running_site import ADMIN, PASSWORD, RunningSite, database_beside
from trace_receiver import trace_receiver

from myometrics_testing.services import OwnedServer
from myometrics_testing.waiting import PATIENCE, wait_for

TASK = "myometrics_auth.send_password_reset"
BROWSER = "Someones-Own-Browser/1.0"


@pytest.fixture(scope="module")
def receiver():
    with trace_receiver() as listening:
        yield listening


@pytest.fixture(scope="module")
def site(tmp_path_factory, database_vendor, receiver):
    folder = tmp_path_factory.mktemp("site")
    with ExitStack() as stack:
        database_url, redis_url = f"sqlite:///{folder / 'site.sqlite3'}", None
        if database_vendor == "postgresql":
            database_url = stack.enter_context(database_beside(os.environ["DATABASE_URL"]))
            redis_url = stack.enter_context(OwnedServer("redis")).url
        running = RunningSite(folder, database_url, redis_url)
        running.environment |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
        stack.callback(running.stop)
        running.start()
        running.make_administrator()
        yield running


@pytest.fixture
def request_id():
    return secrets.token_hex(16)


def ask(site, method, path, request_id, body=None, **headers):
    headers |= {"X-Request-ID": request_id, "User-Agent": BROWSER}
    return httpx.request(
        method, f"{site.url}/api{path}", json=body, headers=headers, timeout=PATIENCE
    )


def request_password_reset(site, request_id):
    """Request a password reset, whose mail is sent by a background job."""
    body = {"email": ADMIN}
    answer = ask(site, "POST", "/auth/password-reset/", request_id, body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["X-Request-ID"] == request_id


def lines_about(site, request_id):
    """The log lines of all processes that carry the id."""
    complete = site.log.rpartition("\n")[0].splitlines()
    lines = [json.loads(line) for line in complete if request_id in line]
    return [line for line in lines if line["request_id"] == request_id]


def test_request_id_is_in_access_log_and_job_log(site, request_id):
    request_password_reset(site, request_id)

    def lines_of(logger):
        return [line for line in lines_about(site, request_id) if line["logger"] == logger]

    (finished,) = wait_for(lambda: lines_of("myometrics.jobs"))
    assert finished["message"].endswith(f"({TASK}) finished")
    (access,) = lines_of("myometrics.access")
    assert (access["endpoint"], access["status"]) == ("/api/auth/password-reset/", 200)
    if site.has_broker:
        wait_for(
            lambda: any("succeeded" in line["message"] for line in lines_of("celery.app.trace"))
        )


def attributes(span):
    return {pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes}


def trace_of(receiver, request_id):
    """The spans of the trace of a request, by their names."""
    spans = receiver.spans
    traces = {s.trace_id for s in spans if attributes(s).get("myometrics.request_id") == request_id}
    return {span.name: span for span in spans if span.trace_id in traces}


def test_request_queries_and_task_are_one_trace(site, receiver, request_id):
    request_password_reset(site, request_id)
    web, message, task = "POST api/auth/password-reset/", f"apply_async/{TASK}", f"run/{TASK}"
    expected = {web, message, task} if site.has_broker else {web}
    wait_for(lambda: expected <= set(trace_of(receiver, request_id)))
    found = trace_of(receiver, request_id)
    assert found[web].parent_span_id == b""
    assert attributes(found[web])["http.status_code"] == 200
    if site.has_broker:
        assert found[message].parent_span_id == found[web].span_id
        assert found[task].parent_span_id == found[message].span_id
        assert "INSERT INTO" in attributes(found["INSERT"])["db.statement"]
    assert receiver.paths == {"/v1/traces"}
    assert receiver.services == {"myometrics"}


def test_spans_have_no_personal_data(site, receiver, request_id):
    request_password_reset(site, request_id)
    entry = {"action": "view", "resource_type": "patient", "resource_id": "of-mrs-secret"}
    signed_in = {"Authorization": f"Bearer {site.sign_in()}"}
    ask(site, "POST", "/audit-logs/", request_id, entry, **signed_in)
    ask(site, "GET", f"/audit-logs/?search={ADMIN}", request_id, **signed_in)
    ask(site, "GET", f"/nothing/at/{ADMIN}", request_id)
    wait_for(lambda: statuses(receiver, request_id) == [200, 200, 201, 404])
    sent = b"".join(receiver.received)
    for private in (ADMIN, "clinic.example", "127.0.0.1", BROWSER, "of-mrs-secret", PASSWORD):
        assert private.encode() not in sent
    assert [value for value in statements(receiver) if "'" in value] == []


def statuses(receiver, request_id):
    found = [attributes(span) for span in receiver.spans]
    ours = [span for span in found if span.get("myometrics.request_id") == request_id]
    return sorted(span["http.status_code"] for span in ours)


def statements(receiver):
    found = [attributes(span).get("db.statement") for span in receiver.spans]
    return [statement for statement in found if statement]


def test_probes_are_not_traced(site, receiver):
    site.get("/readyz")
    assert not any("readyz" in span.name for span in receiver.spans)


WHAT_IS_LOADED = """
import sys, config.wsgi
parts = ("opentelemetry.instrumentation", "opentelemetry.exporter", "opentelemetry.sdk.trace")
print([name for name in sys.modules if name.startswith(parts)])
"""
"""Other libraries (redis) load some of opentelemetry by themselves where it is installed."""
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.any_database
@pytest.mark.parametrize(
    "environment",
    [
        {},
        {**ENDPOINT, "OTEL_SDK_DISABLED": "true"},
        {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"},
    ],
    ids=["not asked for", "disabled", "no exporter"],
)
def test_site_without_tracing_does_not_import_opentelemetry(environment):
    done = python(WHAT_IS_LOADED, {**PRODUCTION, **environment})
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


NOT_INSTALLED = """
import sys

class Missing:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.startswith("opentelemetry"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing)
import config.wsgi
"""


@pytest.mark.any_database
def test_missing_opentelemetry_is_a_warning_and_site_starts():
    done = python(NOT_INSTALLED, {**PRODUCTION, **ENDPOINT})
    assert done.returncode == 0, done.stderr
    (line,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert line["message"].startswith("config.W004: ")
    assert "opentelemetry.sdk is not installed" in line["message"]
    assert "example_project[opentelemetry]" in line["hint"]


@pytest.mark.any_database
def test_unsupported_protocol_is_a_warning():
    done = deploy_check({**PRODUCTION, **ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    assert done.returncode != 0
    assert "config.W005" in done.stderr
    assert "http/protobuf" in done.stderr


@pytest.mark.any_database
def test_installed_opentelemetry_has_no_warning():
    assert deploy_check({**PRODUCTION, **ENDPOINT}).returncode == 0
