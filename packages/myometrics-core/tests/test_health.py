"""Health answers in time whatever hangs, and says which service is down."""

import json
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from django.db import connection
from redis import Redis

from myometrics_core import health
from myometrics_core.health import HealthProbe, check_health, register_probe
from myometrics_core.probes import BUILT_IN_PROBES


@pytest.fixture(autouse=True)
def _fresh_probes(monkeypatch):
    monkeypatch.setattr(health, "_runners", {})
    for probe in BUILT_IN_PROBES:
        register_probe(probe)


@contextmanager
def read_only_database():
    """New connections are refused every write, where the database has such a switch."""
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    statements = {"postgresql": f"ALTER DATABASE {name} SET default_transaction_read_only"}
    if connection.vendor not in statements:
        yield
        return
    statement = statements[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(f"{statement} = on")
        try:
            yield
        finally:
            cursor.execute("SET default_transaction_read_only = off")
            cursor.execute(f"{statement} = off")


@pytest.fixture
def hanging_port():
    """A server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def image_service():
    """Serves whatever the test puts into ``answer``."""
    answer = {"status": "healthy"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *args):
            """Keep the test's output clean."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", answer
    server.shutdown()
    server.server_close()


class Probe(HealthProbe):
    def __init__(self, name, run):
        self.name = name
        self.ask = run

    def run(self):
        self.ask()


SERVICES = {
    "database": "up",
    "redis": "not_configured",
    "email": "not_configured",
    "microservice": "not_configured",
}
"""What a bare site says of each service that core asks."""


@pytest.mark.django_db(transaction=True)
def test_every_service_is_always_told_of(signed_in):
    response = signed_in.get("/api/health/")
    assert response.status_code == 200
    body = response.json()
    assert body["status"] == "healthy"
    assert body["services"] == SERVICES
    assert body["last_check"].endswith("Z")


@pytest.mark.django_db
def test_strangers_are_told_nothing(client):
    assert client.get("/api/health/").status_code in (401, 403)


@pytest.mark.django_db(transaction=True)
def test_redis_that_stops_degrades_the_system(settings, redis_server):
    settings.MYOMETRICS = {"REDIS_URL": redis_server.url, "HEALTH_MAX_AGE": 1e-9}
    assert check_health().services["redis"] == "up"
    redis_server.stop()
    report = check_health()
    assert report.services["redis"] == "down"
    assert report.status == "degraded"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("option", [("maxmemory", "1"), ("min-replicas-to-write", "1")])
def test_redis_that_refuses_writes_is_down(settings, redis_server, option):
    settings.MYOMETRICS = {"REDIS_URL": redis_server.url, "HEALTH_MAX_AGE": 1e-9}
    with Redis.from_url(redis_server.url) as client:
        client.config_set(*option)
        assert client.ping()
    report = check_health()
    assert report.services["redis"] == "down"
    assert report.status == "degraded"


@pytest.mark.django_db(transaction=True)
def test_database_that_takes_no_writes_is_down(settings):
    settings.MYOMETRICS = {"HEALTH_MAX_AGE": 1e-9}
    assert check_health().status == "healthy"
    with read_only_database():
        refused = check_health().status
    assert refused == ("down" if connection.vendor == "postgresql" else "healthy")


@pytest.mark.django_db(transaction=True)
def test_the_image_services_own_word_counts(settings, image_service):
    url, answer = image_service
    settings.MYOMETRICS = {"MICROSERVICE_URL": url, "HEALTH_MAX_AGE": 1e-9}
    assert check_health().services["microservice"] == "up"
    answer["status"] = "error"
    assert check_health().services["microservice"] == "down"


@pytest.mark.django_db(transaction=True)
def test_an_answer_comes_within_three_seconds_whatever_hangs(settings, hanging_port):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", hanging_port
    settings.MYOMETRICS = {
        "REDIS_URL": f"redis://127.0.0.1:{hanging_port}/0",
        "MICROSERVICE_URL": f"http://127.0.0.1:{hanging_port}",
    }
    started = time.monotonic()
    report = check_health()
    assert time.monotonic() - started < 3
    hanging = {"redis": "down", "email": "down", "microservice": "down"}
    assert report.services == {**SERVICES, **hanging}


@pytest.mark.django_db(transaction=True)
def test_a_database_that_fails_is_down_with_503():
    def fail():
        raise OSError

    register_probe(Probe("database", fail))
    assert check_health().status == "down"


@pytest.mark.django_db(transaction=True)
def test_a_probe_that_hangs_is_not_started_twice(settings):
    settings.MYOMETRICS = {"HEALTH_PROBE_TIMEOUT": 0.05}
    release, runs = threading.Event(), []

    def hang():
        runs.append(1)
        release.wait(20)

    register_probe(Probe("slow", hang))
    assert check_health().services["slow"] == "down"
    assert check_health().services["slow"] == "down"
    release.set()
    assert runs == [1]


@pytest.mark.django_db(transaction=True)
def test_a_result_is_given_again_for_a_while_but_not_the_databases(settings):
    settings.MYOMETRICS = {"HEALTH_MAX_AGE": 60}
    runs = []
    register_probe(Probe("counted", lambda: runs.append(1)))
    check_health()
    check_health()
    assert runs == [1]
    check_health(max_age=0)
    assert runs == [1, 1]


@pytest.mark.django_db(transaction=True)
def test_load_balancers_get_an_open_and_dumb_answer(client):
    assert client.get("/livez").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}
    assert client.post("/livez").status_code == 405


@pytest.mark.django_db(transaction=True)
def test_not_ready_without_a_database(client):
    def fail():
        raise OSError

    register_probe(Probe("database", fail))
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"status": "not_ready"}


@pytest.mark.django_db(transaction=True)
def test_every_probe_has_a_deadline_of_its_own(settings):
    settings.MYOMETRICS = {"HEALTH_PROBE_TIMEOUT": 0.05}
    patient = Probe("patient", lambda: time.sleep(0.8))
    patient.timeout = 2
    register_probe(patient)
    register_probe(Probe("hasty", lambda: time.sleep(0.8)))
    services = check_health().services
    assert (services["patient"], services["hasty"]) == ("up", "down")


@pytest.mark.django_db(transaction=True)
def test_no_deadline_is_longer_than_two_seconds():
    release = threading.Event()
    endless = Probe("endless", lambda: release.wait(20))
    endless.timeout = 3600
    register_probe(endless)
    started = time.monotonic()
    assert check_health().services["endless"] == "down"
    assert time.monotonic() - started < 3
    release.set()


@pytest.mark.django_db(transaction=True)
def test_who_asks_while_a_probe_hangs_does_not_wait_again(settings):
    settings.MYOMETRICS = {"HEALTH_PROBE_TIMEOUT": 1.2}
    release = threading.Event()
    register_probe(Probe("slow", lambda: release.wait(20)))
    check_health()
    started = time.monotonic()
    assert check_health().services["slow"] == "down"
    assert time.monotonic() - started < 1
    release.set()


@pytest.mark.django_db(transaction=True)
def test_a_run_that_never_ends_is_given_up_for_a_new_one(settings, monkeypatch):
    settings.MYOMETRICS = {"HEALTH_PROBE_TIMEOUT": 0.05}
    monkeypatch.setattr(health, "GIVE_UP_AFTER", 0.1)
    release, runs = threading.Event(), []

    def hang_three_times():
        runs.append(1)
        if len(runs) <= 3:
            release.wait(20)

    register_probe(Probe("lost", hang_three_times))
    deadline = time.monotonic() + 10
    while check_health(max_age=0).services["lost"] == "down":
        assert time.monotonic() < deadline
    assert len(runs) == 4
    release.set()
    assert check_health(max_age=60).services["lost"] == "up"


@pytest.mark.django_db(transaction=True)
def test_who_asks_does_not_wait_for_a_run_that_others_start_later(settings):
    settings.MYOMETRICS = {"HEALTH_PROBE_TIMEOUT": 1.2, "HEALTH_MAX_AGE": 0.6}
    release, hangs, took = threading.Event(), threading.Event(), []
    register_probe(Probe("quick", lambda: hangs.is_set() and release.wait(20)))
    check_health()
    hangs.set()
    register_probe(Probe("slow", lambda: release.wait(20)))

    def ask():
        began = time.monotonic()
        check_health()
        took.append(time.monotonic() - began)

    askers = [threading.Timer(delay, ask) for delay in (0, 0.8)]  # "quick" is remembered at 0
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    release.set()
    assert max(took) < 1.8
