"""Both worker classes: the same client address, and slow clients are disconnected."""

import io
import json
import re
import shutil
import socket
import threading
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from django.http import UnreadablePostError
from django.test import RequestFactory
from running_site import ADMIN, PASSWORD, RunningSite

from config.requests import Utf8WSGIRequest
from myometrics_testing.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.any_database

UVICORN = "uvicorn_worker.UvicornWorker"
ENTRY = {"action": "viewed", "resource_type": "scan", "resource_id": "7"}
FORM = b'--x\r\nContent-Disposition: form-data; name="post"\r\n\r\nyes\r\n--x--\r\n'
FORWARDED = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A migrated database with two administrators, and the access token of one."""
    folder = tmp_path_factory.mktemp("prepared")
    site = RunningSite(folder, f"sqlite:///{folder / 'site.sqlite3'}", None)
    site.manage("migrate", "--verbosity=0")
    site.make_administrator()
    site.environment["DJANGO_SUPERUSER_EMAIL"] = "other@clinic.example"
    site.manage("createsuperuser", "--noinput")
    script = (
        "from django.contrib.auth import get_user_model\n"
        "from myometrics_auth.tokens import access_token\n"
        "from myometrics_auth.models import Session\n"
        "from django.utils.timezone import now, timedelta\n"
        "user = get_user_model().objects.first()\n"
        "print(access_token(Session.objects.create(user=user, expires_at=now() + timedelta(1))))\n"
    )
    token = site.manage("shell", "-c", script).split()[-1]
    site.stop()
    return site, token


@contextmanager
def serving(prepared, folder, worker_class, options="", **variables):
    """A site on a TCP socket and on a Unix socket, and a client of each."""
    template, token = prepared
    shutil.copy(template.folder / "site.sqlite3", folder)
    site = RunningSite(folder, f"sqlite:///{folder / 'site.sqlite3'}", None)
    socket = str(folder / "web.sock")
    binds = f"--bind unix:{socket} --bind 127.0.0.1:{site.port}"
    site.environment |= {
        "SECRET_KEY": template.environment["SECRET_KEY"],
        "WEB_WORKER_CLASS": worker_class,
        "WEB_CONCURRENCY": "1",
        "GUNICORN_CMD_ARGS": f"{binds} {options}",
        **variables,
    }
    asking = {
        "base_url": site.url,
        "headers": {"Authorization": f"Bearer {token}"},
        "timeout": PATIENCE,
    }
    by_tcp = httpx.Client(**asking)
    by_unix_socket = httpx.Client(transport=httpx.HTTPTransport(uds=socket), **asking)
    with by_tcp, by_unix_socket:
        try:
            site.run("web")
            site.wait_until_ready()
            yield site, by_tcp, by_unix_socket
        finally:
            site.stop()


@pytest.fixture(scope="module", params=["gthread", UVICORN])
def without_proxy(request, prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("without_proxy")
    with serving(prepared, folder, request.param, RATE_LIMIT_AUTH="2/hour") as served:
        yield served


@pytest.fixture(scope="module", params=["gthread", UVICORN])
def impatient(request, prepared, tmp_path_factory):
    """A site of its own: on a busy machine other clients may be slow, too."""
    folder = tmp_path_factory.mktemp("impatient")
    with serving(prepared, folder, request.param, WEB_CLIENT_TIMEOUT="2") as served:
        yield served


@pytest.fixture(scope="module", params=["gthread", UVICORN])
def behind_proxy(request, prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("behind_proxy")
    variables = {
        "TRUSTED_PROXIES": "unix:,127.0.0.1",
        "BEHIND_TLS_PROXY": "true",
        "RATE_LIMIT_AUTH": "1/hour",
    }
    with serving(prepared, folder, request.param, **variables) as served:
        yield served


def entry_address(client, **headers):
    answer = client.post("/api/audit-logs/", json=ENTRY, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()["ip_address"]


def next_page(client):
    return client.get("/api/users/?page_size=1", headers=FORWARDED).json()["next"]


def refresh(client, address):
    headers = {"X-Forwarded-For": address}
    answer = client.post("/api/auth/token/refresh/", json={"refresh": "x"}, headers=headers)
    return answer.status_code


def test_untrusted_peer_cannot_choose_address_or_scheme(without_proxy):
    site, client, _ = without_proxy
    assert entry_address(client, **FORWARDED) == "127.0.0.1"
    assert next_page(client).startswith("http://")
    statuses = [refresh(client, f"203.0.113.{number}") for number in range(4)]
    assert statuses == [401, 401, 429, 429]
    assert "no trusted proxy" in site.log


def test_untrusted_unix_socket_peer_has_no_address_and_logs_warning(without_proxy):
    site, _, client = without_proxy
    assert entry_address(client, **FORWARDED) is None
    assert entry_address(client) is None
    assert next_page(client).startswith("http://")
    assert site.log.count("peer without an address") == 1


def test_chunked_body_is_read_up_to_limit(without_proxy):
    _, client, _ = without_proxy

    def send(count, media_type="application/json"):
        text = json.dumps({**ENTRY, "details": {"x": "@"}}).encode()
        start, end = text.split(b"@")
        body = (part for part in (start, *([b"y" * 1024] * count), end))
        headers = {"Content-Type": media_type}
        return client.post("/api/audit-logs/", content=body, headers=headers)

    assert send(3).status_code == 201
    assert send(3, "text/plain").status_code == 415
    large = send(2049)
    assert (large.status_code, large.json()["code"]) == (413, "body_too_large")


HEAD = b"POST /api/auth/token/refresh/ HTTP/1.1\r\nHost: localhost\r\n"
SLOW_CLIENTS = 8
"""Twice as many as there are threads."""


@contextmanager
def slow_clients(site, started):
    """Clients that keep sending single bytes, and those that the site has disconnected."""
    over, let_go = threading.Event(), []

    def send_slowly(connections):
        while connections and not over.wait(0.1):
            for connection in list(connections):
                try:
                    connection.sendall(b"1")
                except OSError:
                    connections.remove(connection)
                    let_go.append(connection)

    with ExitStack() as stack:
        address = ("127.0.0.1", site.port)
        connections = [
            stack.enter_context(socket.create_connection(address, timeout=PATIENCE))
            for _ in range(SLOW_CLIENTS)
        ]
        for connection in connections:
            connection.sendall(started)
        thread = threading.Thread(target=send_slowly, args=[list(connections)])
        thread.start()
        try:
            yield let_go
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize(
    "started",
    [
        HEAD + b"X-Slow: ",
        HEAD + b"Content-Type: application/json\r\nContent-Length: 9000\r\n\r\n",
    ],
    ids=["headers", "body"],
)
def test_slow_clients_are_disconnected_and_others_served(impatient, started):
    site, client, _ = impatient
    with slow_clients(site, started) as let_go:
        assert client.get("/livez").status_code == 200
        wait_for(lambda: len(let_go) == SLOW_CLIENTS)
    assert client.get("/livez").status_code == 200


def test_trusted_proxy_forwards_client_addresses_on_either_socket(behind_proxy):
    _, *clients = behind_proxy
    for client in clients:
        for number in range(7):
            address = f"203.0.113.{number}"
            headers = {"X-Forwarded-For": f"6.6.6.6, {address}"}
            assert entry_address(client, **headers) == address
        assert next_page(client).startswith("https://")


def test_clients_behind_unix_socket_proxy_have_own_buckets(behind_proxy):
    _, _, client = behind_proxy
    for number in range(7):
        statuses = [refresh(client, f"198.51.100.{number}") for _ in range(2)]
        assert statuses == [401, 429]


def test_server_that_rewrites_peer_logs_warning(prepared, tmp_path):
    options = "--forwarded-allow-ips 127.0.0.1"
    with serving(prepared, tmp_path, UVICORN, options) as (site, client, _):
        assert "forwarded_allow_ips" in site.log
        entry_address(client, **FORWARDED)
        assert "replaces the peer's address" in site.log


def test_truncated_form_changes_nothing(without_proxy):
    """A truncated form is still valid; the missing part is irrelevant."""
    site, _, _ = without_proxy
    with httpx.Client(base_url=site.url, timeout=PATIENCE) as browser:
        browser.get("/admin/login/")
        form = {"username": ADMIN, "password": PASSWORD, "next": "/admin/"}
        form["csrfmiddlewaretoken"] = browser.cookies["csrftoken"]
        assert browser.post("/admin/login/", data=form).status_code == 302
        users = "/admin/myometrics_auth/user/"
        (path,) = re.findall(
            rf'href="({users}[^/"]+/change/)[^"]*">other<wbr>@clinic.example',
            browser.get(users).text,
        )
        path = path.replace("/change/", "/delete/")
        token = browser.cookies["csrftoken"]
        body = f"csrfmiddlewaretoken={token}&post=yes&note=".encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Cookie: {'; '.join(f'{name}={value}' for name, value in browser.cookies.items())}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(body) + 9}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE) as connection:
            connection.sendall(head.encode() + body)
            connection.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.partition(b"\r\n")[0] in {b"HTTP/1.1 403 Forbidden", b""}
        assert browser.get(path).status_code == 200


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("application/x-www-form-urlencoded", b"post=yes&note=12345"),
        ("multipart/form-data; boundary=x", FORM),
        ("application/json", b"[1, 2, 3]    "),
    ],
    ids=["form", "multipart", "json"],
)
def test_body_is_read_completely_or_rejected(media_type, body):
    def request(sent):
        given = {"CONTENT_TYPE": media_type, "CONTENT_LENGTH": str(len(body))}
        environ = RequestFactory().generic("POST", "/").environ | given
        return Utf8WSGIRequest(environ | {"wsgi.input": io.BytesIO(sent)})

    def read(sent):
        found = request(sent)
        return dict(found.POST), found.body if "multipart" not in media_type else b""

    assert read(body + b"the next request") == read(body)
    with pytest.raises(UnreadablePostError):
        read(body[:-4])
