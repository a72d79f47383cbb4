"""Sign-in with a real provider: the npm package ``oidc-provider``."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
import subprocess
import threading
from http.cookiejar import CookieJar
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
from conftest import send
from joserfc.jwk import RSAKey
from rest_framework.test import APIClient

from myometrics_auth.federation.discovery import clear_discovery
from myometrics_auth.federation.models import Identity
from myometrics_auth.models import Session
from myometrics_testing.oidc_provider import CLIENT_ID, CLIENT_SECRET
from myometrics_testing.programs import find_server_program
from myometrics_testing.waiting import PATIENCE, wait_for

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.program("npm"),
    pytest.mark.usefixtures("patient_site"),
]

FOLDER = Path(__file__).parent / "oidc_provider"
REDIRECT_URI = "https://clinic.example/callback"
PROFILE = "/api/auth/user/"


class LogoutReceiver:
    """Receives the provider's logout tokens, for the tests to send them to the site."""

    def __init__(self):
        received = self.received = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                length = int(self.headers["Content-Length"])
                received.append(self.rfile.read(length).decode())
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(scope="session")
def oidc_provider(tmp_path_factory):
    """The running provider: ``issuer`` and ``logouts``."""
    folder = tmp_path_factory.mktemp("oidc-provider")
    for name in ("package.json", "package-lock.json", "server.mjs"):
        (folder / name).write_text((FOLDER / name).read_text())
    npm = find_server_program("npm")
    installed = subprocess.run(
        [npm, "ci", "--prefer-offline", "--no-audit", "--no-fund"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert installed.returncode == 0, installed.stdout + installed.stderr
    logouts = LogoutReceiver()
    key = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"})
    key.ensure_kid()
    environment = {
        **os.environ,
        "CLIENT_ID": CLIENT_ID,
        "CLIENT_SECRET": CLIENT_SECRET,
        "REDIRECT_URI": REDIRECT_URI,
        "LOGOUT_URI": logouts.url,
        "JWKS": json.dumps({"keys": [key.as_dict(private=True)]}),
    }
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["node", "server.mjs"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=output,
        )
        try:
            port = process.stdout.readline().strip()
            assert port, log.read_text()
            logouts.issuer = f"http://127.0.0.1:{int(port)}"
            logouts.log = log
            yield logouts
        finally:
            process.kill()
            process.wait()
            logouts.server.shutdown()
            logouts.server.server_close()


@pytest.fixture
def hospital(oidc_provider, configure):
    """Configures the site with it; a browser of its own per call of ``visit``."""
    clear_discovery()
    oidc_provider.received.clear()

    def configure_as(**keys):
        configure(issuer=oidc_provider.issuer, **keys)
        return oidc_provider

    configure_as()
    return configure_as


class Visitor:
    """A browser at the provider."""

    def __init__(self):
        self.http = httpx.Client(cookies=CookieJar(), timeout=PATIENCE)

    def follow(self, url):
        """The query of the redirect back to the front end."""
        for _ in range(10):
            answer = self.http.get(url)
            assert answer.is_redirect, answer.text
            url = str(answer.url.join(answer.headers["Location"]))
            if url.startswith(REDIRECT_URI):
                return dict(parse_qsl(urlsplit(url).query))
        raise AssertionError("too many redirects")

    def tokens(self, issuer, client=(CLIENT_ID, CLIENT_SECRET), **parameters):
        """The tokens that a front end gets by itself."""
        resource = {"resource": parameters["resource"]} if "resource" in parameters else {}
        verifier = "v" * 43
        digest = hashlib.sha256(verifier.encode()).digest()
        query = {
            "client_id": client[0],
            "redirect_uri": REDIRECT_URI,
            "response_type": "code",
            "scope": "openid email profile",
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
            **parameters,
        }
        back = self.follow(f"{issuer}/auth?{urlencode(query)}")
        form = {
            "grant_type": "authorization_code",
            "code": back["code"],
            "redirect_uri": REDIRECT_URI,
            "code_verifier": verifier,
            **resource,
        }
        answer = self.http.post(f"{issuer}/token", data=form, auth=client)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def sign_out(self, issuer):
        """Sign out at the provider, which then notifies its clients."""
        page = self.http.get(f"{issuer}/session/end").text
        action = html.unescape(re.search(r'action="([^"]+)"', page).group(1))
        xsrf = re.search(r'name="xsrf" value="([^"]+)"', page).group(1)
        self.http.post(action, data={"xsrf": xsrf, "logout": "yes"})


@pytest.fixture
def visitor():
    return Visitor()


def bearer_of(token):
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


def sign_in_by_code(visitor):
    body = {"redirect_uri": REDIRECT_URI}
    started = send(APIClient(), "post", "auth/providers/hospital/authorize/", body).json()
    back = visitor.follow(started["authorization_url"])
    body = {"code": back["code"], "state": back["state"], "flow": started["flow"]}
    return send(APIClient(), "post", "auth/providers/hospital/callback/", body)


def test_code_flow_signs_in(hospital, visitor):
    answer = sign_in_by_code(visitor)
    assert answer.status_code == 200, answer.json()
    user = answer.json()["user"]
    assert (user["email"], user["firstName"]) == ("ada@clinic.example", "Ada")


def test_id_token_is_exchanged(hospital, visitor, exchange):
    token = visitor.tokens(hospital().issuer)["id_token"]
    assert exchange(token).status_code == 200
    assert exchange(token).status_code == 401


def test_opaque_bearer_is_introspected(hospital, visitor):
    issuer = hospital(access_tokens="introspection").issuer
    token = visitor.tokens(issuer)["access_token"]
    assert token.count(".") == 0
    assert bearer_of(token).get(PROFILE).json()["email"] == "ada@clinic.example"


def test_jwt_bearer_is_verified(hospital, visitor):
    issuer = hospital(access_tokens="jwt", audiences=["urn:api", CLIENT_ID]).issuer
    tokens = visitor.tokens(issuer, resource="urn:api")
    assert tokens["access_token"].count(".") == 2
    answer = bearer_of(tokens["access_token"]).get(PROFILE)
    assert answer.status_code == 200, answer.json()
    assert bearer_of(tokens["id_token"]).get(PROFILE).status_code == 401


def test_opaque_bearer_of_another_application_is_refused(hospital, visitor):
    issuer = hospital(access_tokens="introspection").issuer
    client = ("another-application", "another-secret")
    token = visitor.tokens(issuer, client)["access_token"]
    assert bearer_of(token).get(PROFILE).status_code == 401
    assert not Identity.objects.exists()


def test_refresh_token_is_no_bearer(hospital, visitor):
    issuer = hospital(access_tokens="introspection").issuer
    tokens = visitor.tokens(issuer)
    assert bearer_of(tokens["refresh_token"]).get(PROFILE).status_code == 401
    assert not Session.objects.exists()


def test_sign_out_at_the_provider_ends_the_session(hospital, visitor):
    provider = hospital()
    client = bearer_of(sign_in_by_code(visitor).json()["access"])
    assert client.get(PROFILE).status_code == 200
    visitor.sign_out(provider.issuer)
    form = wait_for(lambda: provider.received, log=provider.log.read_text)[0]
    answer = APIClient().generic(
        "POST",
        "/api/auth/providers/hospital/logout/",
        form,
        content_type="application/x-www-form-urlencoded",
    )
    assert answer.status_code == 200, answer.json()
    assert client.get(PROFILE).status_code == 401
