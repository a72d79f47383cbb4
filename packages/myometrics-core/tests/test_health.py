"""Health responds in time while services hang, and names those that are down.

The clock advances only while a check waits for a hanging probe: the measured times depend on the
deadlines, not on the machine.
"""

import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from django.db import connection
from redis import Redis

from myometrics_core.health import HealthProbe, check_health, register_probe
from myometrics_core.health import report as health
from myometrics_core.health.probes import BUILT_IN_PROBES
from myometrics_testing.waiting import PATIENCE, wait_for

MAX_SECONDS = 3.0
"""Seconds within which health responds."""


@pytest.fixture(autouse=True)
def _fresh_probes(monkeypatch):
    monkeypatch.setattr(health, "_runners", {})
    for probe in BUILT_IN_PROBES:
        register_probe(probe)


@contextmanager
def read_only_database():
    """Make new connections read-only, if the database supports it."""
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


class Clock:
    """Replaces the module ``time``: time passes only while waiting for a hanging thread.

    A probe hangs if its service or its thread is in ``hanging``; other threads get the time that
    they need.
    """

    def __init__(self):
        self.now = 0.0
        self.hanging = set()
        self.while_waiting = None
        """A function to call once, while a check waits for a thread that hangs."""

    def monotonic(self):
        return self.now

    def join(self, thread, timeout):
        wait_for(lambda: not thread.is_alive() or self._hangs(thread))
        if thread.is_alive():
            ends = self.now + timeout
            if self.while_waiting:
                while_waiting, self.while_waiting = self.while_waiting, None
                while_waiting()
            self.now = max(self.now, ends)

    def _hangs(self, thread):
        return thread in self.hanging or thread.name.removeprefix("health-") in self.hanging


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    clock, join = Clock(), threading.Thread.join

    def join_by_clock(thread, timeout=None):
        if timeout is None or not thread.name.startswith("health-"):
            join(thread, timeout)
        else:
            clock.join(thread, timeout)

    monkeypatch.setattr(health, "time", clock)
    monkeypatch.setattr(threading.Thread, "join", join_by_clock)
    return clock


@pytest.fixture
def patient_probes(monkeypatch):
    """Probes wait for their services as long as necessary."""
    monkeypatch.setattr("myometrics_core.health.probes.TIMEOUT_SECONDS", PATIENCE)


@pytest.fixture
def hanging_port():
    """A server that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def image_service():
    """Serves the test's ``answer``."""
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


class HangingProbe(HealthProbe):
    """Hangs until it is released; with ``times``, only the first runs hang."""

    def __init__(self, clock, name, timeout=None, times=None):
        self.clock, self.name, self.timeout, self.times = clock, name, timeout, times
        self.runs = 0
        self.threads = []
        self.released = threading.Event()

    def run(self):
        self.runs += 1
        if self.times is None or self.runs <= self.times:
            self.threads.append(threading.current_thread())
            self.clock.hanging.add(threading.current_thread())
            self.released.wait(PATIENCE)

    def release(self):
        """Release all hanging runs, and wait until they have ended."""
        self.released.set()
        for thread in self.threads:
            thread.join()


@pytest.fixture
def hang(clock):
    """Registers a probe that hangs; it is released at the end of the test."""
    probes = []

    def register(name, **options):
        probes.append(HangingProbe(clock, name, **options))
        register_probe(probes[-1])
        return probes[-1]

    yield register
    for probe in probes:
        probe.release()


SERVICES = {
    "database": "up",
    "redis": "not_configured",
    "email": "not_configured",
    "microservice": "not_configured",
}
"""States of core's services on a site without configuration."""


@pytest.mark.django_db(transaction=True)
def test_health_lists_every_service(signed_in):
    response = signed_in.get("/api/health/")
    assert response.status_code == 200
    body = response.json()
    assert body["status"] == "healthy"
    assert body["services"] == SERVICES
    assert body["last_check"].endswith("Z")


@pytest.mark.django_db
def test_health_requires_authentication(client):
    assert client.get("/api/health/").status_code in (401, 403)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("patient_probes")
def test_unreachable_redis_degrades_the_system(settings, redis_server, clock):
    settings.MYOMETRICS = {"REDIS_URL": redis_server.url}
    assert check_health().services["redis"] == "up"
    redis_server.stop()
    clock.now += 60
    report = check_health()
    assert report.services["redis"] == "down"
    assert report.status == "degraded"


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("patient_probes")
@pytest.mark.parametrize("option", [("maxmemory", "1"), ("min-replicas-to-write", "1")])
def test_redis_that_rejects_writes_is_down(settings, redis_server, option):
    settings.MYOMETRICS = {"REDIS_URL": redis_server.url}
    with Redis.from_url(redis_server.url) as client:
        client.config_set(*option)
        assert client.ping()
    report = check_health()
    assert report.services["redis"] == "down"
    assert report.status == "degraded"


@pytest.mark.django_db(transaction=True)
def test_read_only_database_is_down():
    assert check_health().status == "healthy"
    with read_only_database():
        refused = check_health().status
    assert refused == ("down" if connection.vendor == "postgresql" else "healthy")


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("patient_probes")
def test_status_in_body_of_image_service_counts(settings, image_service, clock):
    url, answer = image_service
    settings.MYOMETRICS = {"MICROSERVICE_URL": url}
    assert check_health().services["microservice"] == "up"
    answer["status"] = "error"
    clock.now += 60
    assert check_health().services["microservice"] == "down"


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("patient_probes")
def test_health_responds_within_three_seconds_if_services_hang(settings, hanging_port, clock):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", hanging_port
    settings.MYOMETRICS = {
        "REDIS_URL": f"redis://127.0.0.1:{hanging_port}/0",
        "MICROSERVICE_URL": f"http://127.0.0.1:{hanging_port}",
    }
    clock.hanging |= {"redis", "email", "microservice"}
    report = check_health()
    assert 0 < clock.now < MAX_SECONDS
    hanging = dict.fromkeys(clock.hanging, "down")
    assert report.services == {**SERVICES, **hanging}


@pytest.mark.django_db(transaction=True)
def test_probe_of_hanging_server_ends_by_itself(settings, hanging_port):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", hanging_port
    settings.MYOMETRICS = {
        "REDIS_URL": f"redis://127.0.0.1:{hanging_port}/0",
        "MICROSERVICE_URL": f"http://127.0.0.1:{hanging_port}",
    }
    hanging = {"redis": "down", "email": "down", "microservice": "down"}
    assert check_health().services == {**SERVICES, **hanging}


@pytest.mark.django_db(transaction=True)
def test_failing_database_is_down_with_503():
    def fail():
        raise OSError

    register_probe(Probe("database", fail))
    assert check_health().status == "down"


@pytest.mark.django_db(transaction=True)
def test_hanging_probe_is_not_started_twice(hang):
    slow = hang("slow")
    assert check_health().services["slow"] == "down"
    assert check_health().services["slow"] == "down"
    slow.release()
    assert slow.runs == 1


@pytest.mark.django_db(transaction=True)
def test_results_are_cached_except_the_databases(settings, clock):
    settings.MYOMETRICS = {"HEALTH_MAX_AGE": 60}
    runs = {"counted": 0, "database": 0}
    probes = [Probe(name, lambda name=name: runs.update({name: runs[name] + 1})) for name in runs]
    probes[1].max_age = 0.0
    for probe in probes:
        register_probe(probe)
    for seconds, counted in ((0, 1), (59, 1), (2, 2)):
        clock.now += seconds
        check_health()
        assert runs["counted"] == counted
    assert runs["database"] == 3
    check_health(max_age=0)
    assert runs["counted"] == 3


@pytest.mark.django_db(transaction=True)
def test_livez_and_readyz_are_public_and_minimal(client):
    assert client.get("/livez").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}
    assert client.post("/livez").status_code == 405


@pytest.mark.django_db(transaction=True)
def test_readyz_is_503_without_database(client):
    def fail():
        raise OSError

    register_probe(Probe("database", fail))
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"status": "not_ready"}


@pytest.mark.django_db(transaction=True)
def test_readyz_neither_waits_for_nor_calls_other_services(client, hang, clock):
    mail = hang("email")
    assert client.get("/readyz").status_code == 200
    assert (mail.runs, clock.now) == (0, 0)


@pytest.mark.django_db(transaction=True)
def test_each_probe_has_its_own_deadline(hang, clock):
    hang("hasty", timeout=0.05)
    patient = Probe("patient", lambda: wait_for(lambda: clock.now >= 0.05))
    patient.timeout = 2
    register_probe(patient)
    services = check_health().services
    assert (services["patient"], services["hasty"]) == ("up", "down")


@pytest.mark.django_db(transaction=True)
def test_deadline_is_at_most_two_seconds(hang, clock):
    hang("endless", timeout=3600)
    assert check_health().services["endless"] == "down"
    assert clock.now == 2 < MAX_SECONDS


@pytest.mark.django_db(transaction=True)
def test_hanging_probes_share_one_waiting_time(settings, hang, clock):
    settings.MYOMETRICS = {"HEALTH_PROBE_TIMEOUT": 1.2}
    for number in range(5):
        hang(f"hanging {number}")
    assert check_health().status == "degraded"
    assert clock.now == 1.2


@pytest.mark.django_db(transaction=True)
def test_second_check_of_hanging_probe_does_not_wait(hang, clock):
    hang("slow")
    check_health()
    waited = clock.now
    assert check_health().services["slow"] == "down"
    assert clock.now == waited > 0


@pytest.mark.django_db(transaction=True)
def test_probe_runs_again_once_a_hanging_run_has_ended(hang):
    lost = hang("lost", times=1)
    for _ in range(3):
        assert check_health(max_age=0).services["lost"] == "down"
    assert lost.runs == 1
    lost.release()
    assert check_health(max_age=0).services["lost"] == "up"
    assert lost.runs == 2


@pytest.mark.django_db(transaction=True)
def test_check_does_not_wait_for_later_runs_of_others(settings, hang, clock):
    settings.MYOMETRICS = {"HEALTH_PROBE_TIMEOUT": 1.2, "HEALTH_MAX_AGE": 0.6}
    later = []

    def check_when_the_result_is_old():
        clock.now += 0.8
        later.append(check_health().services)

    slow, late = hang("slow", times=0), hang("late", times=0)
    slow.max_age = 0
    check_health()
    slow.times = late.times = None
    clock.while_waiting = check_when_the_result_is_old
    first = check_health().services
    assert (first["slow"], first["late"]) == ("down", "up")
    assert [(asked["slow"], asked["late"]) for asked in later] == [("down", "down")]
