"""The documented nginx file in front of two web processes."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import ssl
import subprocess
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path

import django.contrib.admin
import httpx
import psycopg
import pytest
import trustme
from fault_checks import count
from load import Load
from proxied_site import FRONT_END, ProxiedSite
from running_site import PASSWORD
from test_journey import test_journey_of_a_new_user as run_journey

from myometrics_testing.services import OwnedServer
from myometrics_testing.waiting import PATIENCE, wait_for

pytestmark = [pytest.mark.long, pytest.mark.program("nginx")]

CUT_OFF = "upstream prematurely closed connection"
ENTRY = {"action": "viewed", "resource_type": "scan", "resource_id": "7"}
LIMIT = 2 * 1024 * 1024
MAX_OPEN_REQUESTS = 100
FORGED = {
    "X-Forwarded-For": "203.0.113.7",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Host": "evil.example",
    "Forwarded": "for=203.0.113.7;proto=http;host=evil.example",
}


@pytest.fixture(scope="module")
def postgresql():
    with OwnedServer("postgresql") as server:
        yield server


@pytest.fixture(scope="module")
def site(tmp_path_factory, postgresql):
    folder = tmp_path_factory.mktemp("proxied")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    site = ProxiedSite(folder, postgresql.url, authority.issue_cert("localhost"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(folder / "authority.pem"))
        try:
            site.start()
            yield site
        finally:
            site.stop()


@pytest.fixture
def access(site):
    site.make_administrator()
    return site.sign_in()


def assert_error_of_nginx(answer, status, code):
    """The error has the API's format, and is readable by the front end."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert set(answer.json()) == {"detail", "code", "field_errors"}
    assert (answer.json()["code"], answer.json()["field_errors"]) == (code, {})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert answer.headers.get("Access-Control-Allow-Origin") == answer.request.headers.get("Origin")


def connect(site, address="127.0.0.1"):
    """A raw TLS connection to nginx at ``address``."""
    context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    connection = socket.create_connection((address, site.https_port), timeout=PATIENCE)
    return context.wrap_socket(connection, server_hostname="localhost")


def read_answer(connection):
    """Status line, headers and body of the response; then the connection is closed."""
    received = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return int(status.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body


def test_front_end_journey_works_over_https(site):
    # First: it counts the uploads of the whole site.
    run_journey(site)


def test_documented_file_loads_without_warning(site):
    done = subprocess.run([*site.nginx_command, "-t"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


def test_http_is_redirected_to_https(site):
    answer = httpx.get(f"http://127.0.0.1:{site.http_port}/api/users/?page=2")
    assert answer.status_code == 301
    assert answer.headers["Location"] == "https://localhost/api/users/?page=2"


def test_ipv6_client_is_served_and_address_recorded(site, access):
    assert httpx.get(f"http://[::1]:{site.http_port}/livez").status_code == 301
    body = json.dumps(ENTRY).encode()
    with connect(site, "::1") as connection:
        connection.sendall(
            b"POST /api/audit-logs/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\nAuthorization: Bearer %b\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (access.encode(), len(body), body)
        )
        status, _, body = read_answer(connection)
    assert (status, json.loads(body)["ip_address"]) == (201, "::1")


def test_other_host_names_get_no_certificate(site):
    context = ssl.create_default_context()
    connection = socket.create_connection(("127.0.0.1", site.https_port), timeout=PATIENCE)
    with connection, pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        context.wrap_socket(connection, server_hostname="evil.example")


def test_forged_headers_of_clients_are_overwritten(site, access):
    headers = {**FORGED, "Authorization": f"Bearer {access}", "X-Request-ID": "chosen-by-client"}
    with site.client("127.0.0.3", headers=headers) as client:
        entry = client.post("/api/audit-logs/", json=ENTRY)
        assert entry.json()["ip_address"] == "127.0.0.3"
        assert entry.headers["X-Request-ID"] != "chosen-by-client"
        page = client.get("/api/audit-logs/?page_size=1").json()
        assert page["next"].startswith("https://localhost/api/audit-logs/")


def test_static_files_are_served(site):
    file = Path(django.contrib.admin.__file__).parent / "static" / "admin" / "css" / "base.css"
    answer = site.get("/static/admin/css/base.css")
    assert answer.headers["Content-Type"].startswith("text/css")
    assert answer.content == file.read_bytes()


def test_metrics_cover_both_web_processes(site):
    wanted = 'myometrics_requests_total{endpoint="/api/health/",method="GET",status="401"}'

    def counted(web):
        text = web.get("/metrics", Authorization="Bearer metrics-token").text
        return float(re.search(rf"^{re.escape(wanted)} (\S+)$", text, re.MULTILINE)[1])

    for web in site.webs:
        assert web.get("/api/health/").status_code == 401
    first, second = map(counted, site.webs)
    assert first == second >= 2


@pytest.mark.parametrize("origin", [FRONT_END, None])
def test_nginx_rejects_too_large_body_in_json(site, origin):
    headers = {"Origin": origin} if origin else {}
    with site.client(headers=headers) as client:
        answer = client.post("/api/audit-logs/", content=b"x" * (LIMIT + 1))
    assert_error_of_nginx(answer, 413, "body_too_large")


def test_body_of_maximum_size_reaches_site(site, access):
    start, end = json.dumps({**ENTRY, "details": {"x": "@"}}).split("@")
    body = start + "y" * (LIMIT - len(start) - len(end)) + end
    headers = {"Authorization": f"Bearer {access}", "Content-Type": "application/json"}
    answer = site.client().post("/api/audit-logs/", content=body, headers=headers)
    # The site itself limits details to 64 KiB.
    assert (answer.status_code, list(answer.json()["field_errors"])) == (400, ["details"])


@pytest.mark.parametrize(
    ("request_text", "status", "code"),
    [
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "bad_request"),
        (b"GET /%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"a" * 9000), 414, "uri_too_long"),
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\nX: %b\r\n\r\n" % (b"a" * 9000),
            431,
            "headers_too_large",
        ),
    ],
    ids=["malformed", "long address", "long header"],
)
def test_nginx_rejects_unreadable_request_in_json(site, request_text, status, code):
    with connect(site) as connection:
        connection.sendall(request_text)
        found, headers, body = read_answer(connection)
    assert (found, headers["content-type"]) == (status, "application/json")
    assert json.loads(body)["code"] == code
    assert json.loads(body)["field_errors"] == {}
    assert "x-request-id" in headers


def test_nginx_rejects_http_on_https_port_in_json(site):
    answer = httpx.get(f"http://127.0.0.1:{site.https_port}/", headers={"Host": "localhost"})
    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/json"


@contextmanager
def slow_clients(site, count, address="127.0.0.1"):
    """Connections that have sent all of a request but the last byte of its body."""
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(site, address)) for _ in range(count)]
        for connection in connections:
            connection.sendall(
                b"POST /api/auth/login/ HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\nContent-Length: 3\r\n\r\n{"
            )
        yield connections


def test_slow_clients_do_not_stop_others(site):
    threads = len(site.webs) * int(site.environment["WEB_THREADS"])
    with slow_clients(site, threads * 2) as connections:
        assert site.get("/livez").status_code == 200
        for connection in connections:
            connection.sendall(b"}")
        assert site.get("/livez").status_code == 200


def rejected(site, address):
    """The response to a request from ``address``, once nginx rejects it."""
    with connect(site, address) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = read_answer(connection)
    return None if answer[0] == 200 else answer


def test_too_many_open_requests_per_address_are_rejected_in_json(site):
    with slow_clients(site, MAX_OPEN_REQUESTS, "::1"):
        # nginx's processes may read the requests later than this one.
        status, headers, body = wait_for(lambda: rejected(site, "::1"))
        assert site.get("/livez").status_code == 200  # another address
    assert (status, json.loads(body)["code"]) == (429, "throttled")
    assert (headers["content-type"], headers["retry-after"]) == ("application/json", "1")


@contextmanager
def both_processes_down(site):
    """No web process listens."""
    for web in site.webs:
        web.stop()
        web.socket.close()
    try:
        yield
    finally:
        for web in site.webs:
            web.open()
        site.start_all(site.webs)


def test_stopped_site_is_502_and_request_flood_429_in_json(site):
    with (
        both_processes_down(site),
        site.client("127.0.0.4", headers={"Origin": FRONT_END}) as client,
    ):
        for method in ("GET", "POST"):
            answer = client.request(method, "/api/auth/user/")
            assert_error_of_nginx(answer, 502, "bad_gateway")
            assert answer.headers["Retry-After"] == "5"
        refused = wait_for(lambda: throttled(client))
        assert_error_of_nginx(refused, 429, "throttled")
        assert refused.headers["Retry-After"] == "1"
    assert site.get("/readyz").status_code == 200


def throttled(client):
    # Without a web server, nginx responds faster than its rate limit.
    answers = [client.get("/livez") for _ in range(300)]
    return next((answer for answer in answers if answer.status_code == 429), None)


AUDIT_LOG, UPLOADS = "myometrics_audit_auditlog", "myometrics_analytics_upload"
"""The tables of the last two sections of an export."""
WAITING = "SELECT count(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
WAITING_FOR_AUDIT_LOG = f"{WAITING} AND query LIKE 'COPY%'"
"""Exports only: other processes read the audit log, too."""
EXPORT_ENTRIES = f"SELECT count(id) FROM {AUDIT_LOG} WHERE action = 'data_exported'"


class Export:
    """A download in a thread of its own, from ``url``."""

    def __init__(self, site, url):
        self.site, self.url = site, url
        self.access = new_user_with_uploads(site)
        self.received = []
        self.request_id = self.error = None
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        headers = {"Authorization": f"Bearer {self.access}"}
        headers["X-Forwarded-Proto"] = "https"  # for requests that do not go through nginx
        with (
            httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE) as client,
            client.stream("GET", "/api/users/me/export/?format=csv") as answer,
        ):
            self.request_id = answer.headers["X-Request-ID"]
            try:
                self.received.extend(answer.iter_raw())
            except httpx.RemoteProtocolError as error:
                self.error = error


def new_user_with_uploads(site):
    """An access token of a user whose uploads are more than the site sends at a time."""
    email = f"{secrets.token_hex(8)}@clinic.example"
    body = {"email": email, "password": PASSWORD, "firstName": "Ada", "lastName": "Byron"}
    body |= {"clinicName": "North", "role": "doctor"}
    # Not by way of nginx, which limits the rate of requests.
    url = f"http://localhost:{site.webs[0].port}/api"
    with httpx.Client(base_url=url, headers={"X-Forwarded-Proto": "https"}) as client:
        access = client.post("/auth/register/", json=body).json()["access"]
        client.headers["Authorization"] = f"Bearer {access}"
        for number in range(200):
            entry = {"action": "upload_created", "resource_type": "upload"}
            entry |= {"resource_id": f"upload-{number}", "details": {"filename": "x" * 200}}
            assert client.post("/audit-logs/", json=entry).status_code == 201
    return str(access)


@contextmanager
def export_that_waits(site, postgresql, url):
    """A download of which the client has a part; the last section waits for a lock.

    The table of uploads is locked first, until the site has written its audit entry.
    """
    export = Export(site, url)
    exports_before = count(postgresql, EXPORT_ENTRIES)
    with lock(postgresql, AUDIT_LOG) as lock_audit_log:
        with lock(postgresql, UPLOADS) as lock_uploads:
            lock_uploads()
            export.thread.start()
            wait_for(
                lambda: count(postgresql, EXPORT_ENTRIES) > exports_before, log=lambda: site.log
            )
            lock_audit_log()
        wait_for(
            lambda: export.request_id and count(postgresql, WAITING_FOR_AUDIT_LOG),
            log=lambda: site.log,
        )
        yield export
    export.thread.join()


@contextmanager
def lock(postgresql, table):
    """A function that locks ``table`` until the end of the block."""
    with psycopg.connect(postgresql.url) as connection:
        yield lambda: connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        connection.rollback()


def failed_exports(site):
    name = 'myometrics_requests_total{endpoint="/api/users/me/export/",method="GET",status="500"}'
    text = site.webs[0].get("/metrics", Authorization="Bearer metrics-token").text
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def lines_about(site, export, logger):
    """The lines of a logger about an export."""
    lines = [json.loads(line) for line in site.log.splitlines() if export.request_id in line]
    return [line for line in lines if line["logger"] == logger]


@pytest.fixture(params=["nginx", "asgi"])
def url(request, site):
    """Where to download from: nginx, or the process under ASGI."""
    return site.url if request.param == "nginx" else f"http://localhost:{site.asgi.port}"


def test_late_export_is_complete(site, postgresql, url):
    with export_that_waits(site, postgresql, url) as export:
        pass
    assert export.error is None
    assert b"".join(export.received).endswith(b"export,,complete,true\r\n")


def test_export_cut_by_database_is_broken_and_counted_as_failed(site, postgresql, url):
    failed = failed_exports(site)
    with export_that_waits(site, postgresql, url) as export:
        terminate = WAITING_FOR_AUDIT_LOG.replace("count(pid)", "count(pg_terminate_backend(pid))")
        assert count(postgresql, terminate) == 1
        export.thread.join()
    assert "incomplete chunked read" in str(export.error)
    wait_for(lambda: failed_exports(site) == failed + 1)
    # It is counted before it is logged.
    (access_line,) = wait_for(lambda: lines_about(site, export, "myometrics.access"))
    assert (access_line["endpoint"], access_line["status"]) == ("/api/users/me/export/", 500)
    assert lines_about(site, export, "myometrics.core.downloads")


def test_export_of_killed_process_is_broken(site, postgresql):
    before, known = [web.workers() for web in site.webs], site.nginx_errors.count(CUT_OFF)
    with export_that_waits(site, postgresql, site.url) as export:
        for worker in set.union(*before):
            os.kill(worker, signal.SIGKILL)
        export.thread.join()
    assert "incomplete chunked read" in str(export.error)
    # The killed process cannot log.
    wait_for(lambda: site.nginx_errors.count(CUT_OFF) > known)
    for web, killed in zip(site.webs, before, strict=True):
        wait_for(lambda web=web, killed=killed: web.workers() - killed)
        web.wait_until_ready()


UPGRADED = "2.0.0"
"""The version that the new release of ``upgraded_settings`` shows."""


@contextmanager
def successful_load(site, access, postgresql):
    """Clients read and write throughout the block: no request fails, none is executed twice."""
    query = "SELECT array_agg(id) FROM myometrics_audit_auditlog WHERE action = 'load'"
    before = count(postgresql, query) or []
    # Below nginx's limit of requests.
    with Load(site.url, access, pause=0.2) as load:
        load.wait_for_successes()
        yield load
        load.wait_for_successes()
    assert (load.refused, load.broken) == ([], [])
    assert sorted(before + load.written) == sorted(count(postgresql, query))


def test_reload_of_gunicorn_fails_no_request(site, access, postgresql):
    with successful_load(site, access, postgresql):
        site.webs[0].reload()


def version(site):
    return site.get("/api/schema/").json()["info"]["version"]


def test_rolling_restart_with_migration_fails_no_request(site, access, postgresql):
    assert version(site) != UPGRADED
    with successful_load(site, access, postgresql) as load:
        site.environment["DJANGO_SETTINGS_MODULE"] = "upgraded_settings"
        site.manage("migrate", "--verbosity=0")
        load.wait_for_successes()
        for web in site.webs:
            web.restart()
            load.wait_for_successes()
    assert {version(site) for _ in range(4)} == {UPGRADED}
