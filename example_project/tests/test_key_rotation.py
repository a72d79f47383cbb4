"""Keys are rotated as ``docs/security.md`` describes it, while clients hold tokens.

Two web servers on one database are restarted one after the other, so that old and new keys serve
side by side.
"""

from __future__ import annotations

import re
import secrets
from contextlib import ExitStack
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import httpx
import pyotp
import pytest
from running_site import PASSWORD, RunningSite

from myometrics_core.times import utc_now
from myometrics_testing.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.long

OLD, NEW = secrets.token_urlsafe(50), secrets.token_urlsafe(50)
ROTATIONS = {
    "SECRET_KEY": [
        {"SECRET_KEY": OLD},
        {"SECRET_KEY": OLD, "SECRET_KEY_FALLBACKS": NEW},
        {"SECRET_KEY": NEW, "SECRET_KEY_FALLBACKS": OLD},
        {"SECRET_KEY": NEW, "SECRET_KEY_FALLBACKS": ""},
    ],
    "SIGNING_KEYS": [
        {"SIGNING_KEYS": keys, "PSEUDONYM_KEYS": keys}
        for keys in (OLD, f"{OLD},{NEW}", f"{NEW},{OLD}", NEW)
    ],
}
"""Variable → the environments: before, new key announced, new key first, old key dropped."""


@pytest.fixture(params=ROTATIONS)
def environments(request):
    return ROTATIONS[request.param]


@pytest.fixture
def sites(tmp_path, postgresql_server, environments):
    """Two web servers of one site; the first also does the background work."""
    with ExitStack() as running:
        here = RunningSite(tmp_path, postgresql_server.url, None)
        here.environment |= {
            "AUDIT_KEYS": f"first:{secrets.token_hex(32)}",
            "RATE_LIMIT_AUTH": "1000/minute",
            "RATE_LIMIT_EXPORT": "1000/minute",
            "WEB_CONCURRENCY": "1",
            **environments[0],
        }
        running.callback(here.stop)
        here.start()
        there = RunningSite(tmp_path, postgresql_server.url, None)
        there.environment |= {
            **here.environment,
            "PORT": there.environment["PORT"],
            "JOB_RUNNER": "none",
        }
        running.callback(there.stop)
        there.run("web")
        there.wait_until_ready()
        yield here, there


def restart(site, environment):
    """Replace the site's web server by one in ``environment``."""
    site.environment |= environment
    site.processes["web"].terminate()
    site.processes["web"].wait(timeout=PATIENCE)
    site.run("web")
    site.wait_until_ready()


class User:
    """A user with an authenticator app, and all tokens of the user."""

    def __init__(self, site, email):
        self.email = email
        body = {"email": email, "password": PASSWORD, "firstName": "A", "lastName": "B"}
        tokens = ask(site, "POST", "/auth/register/", 201, body)
        self.accesses, self.refreshes = [tokens["access"]], [tokens["refresh"]]
        secret = self.request(site, "POST", "/auth/mfa/enrol/", 201, {"password": PASSWORD})
        self.app = pyotp.parse_uri(secret["otpauth_url"])
        code = {"code": self.app.at(utc_now())}
        self.codes = self.request(site, "POST", "/auth/mfa/confirm/", 200, code)["recovery_codes"]

    def request(self, site, method, path, status, body=None):
        return ask(site, method, path, status, body, self.accesses[-1])

    def next_code(self):
        """The app's code of the next half minute: codes may not be older than the last."""
        return self.app.at(utc_now() + timedelta(seconds=30))

    def sign_in(self, site, code):
        self.finish(site, self.begin(site), code)

    def begin(self, site):
        """The first half of a sign-in: its ``mfa_token``."""
        body = {"email": self.email, "password": PASSWORD}
        return ask(site, "POST", "/auth/login/", 200, body)["mfa_token"]

    def finish(self, site, token, code):
        body = {"mfa_token": token, "code": code}
        tokens = ask(site, "POST", "/auth/login/mfa/", 200, body)
        self.accesses.append(tokens["access"])
        self.refreshes.append(tokens["refresh"])

    def works_at(self, site):
        """Use every token at ``site``, and keep the new access tokens."""
        for access in self.accesses:
            assert ask(site, "GET", "/auth/user/", 200, access=access)["email"] == self.email
        for refresh in self.refreshes:
            body = {"refresh": refresh}
            self.accesses.append(ask(site, "POST", "/auth/token/refresh/", 200, body)["access"])


def ask(site, method, path, status, body=None, access=None):
    headers = {"Authorization": f"Bearer {access}"} if access else {}
    answer = httpx.request(
        method, f"{site.url}/api{path}", json=body, headers=headers, timeout=PATIENCE
    )
    assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
    return answer.json() if answer.content and status != 204 else None


def fail_to_sign_in(site, email):
    ask(site, "POST", "/auth/login/", 401, {"email": email, "password": "wrong"})


def failed_sign_ins(site):
    code = (
        "from myometrics_audit.models import AuditLog;"
        "print(AuditLog.objects.filter(action='login_failed').count())"
    )
    return int(site.manage("shell", "-v", "0", "-c", code).split()[-1])


def link_to(site, address, part):
    """Path and query of the link in the mails to ``address`` that has ``part`` in it."""

    def links():
        mails = "\n".join(site.mails_to(address))
        return [link for link in re.findall(r"https?://\S+", mails) if part in link]

    (link,) = wait_for(links, log=lambda: site.log)
    parts = urlsplit(link)
    return f"{parts.path}?{parts.query}"


def test_rotation_keeps_sessions_links_and_pseudonyms_valid(sites, environments):
    here, there = sites
    _before, announced, first, dropped = environments
    ada, bob = User(here, "ada@clinic.example"), User(there, "bob@clinic.example")
    cleo = User(here, "cleo@clinic.example")
    for site in sites:
        fail_to_sign_in(site, ada.email)
    ada.request(here, "GET", "/users/me/export/?delivery=email", 202)
    export = link_to(here, ada.email, "exports")
    ask(here, "POST", "/auth/password-reset/", 200, {"email": cleo.email})
    reset = parse_qs(urlsplit(link_to(here, cleo.email, "reset")).query)

    for environment in (announced, first):
        for site in sites:
            pending = ada.begin(site)
            restart(site, environment)
            for served in sites:
                ada.works_at(served)
    ada.finish(there, pending, ada.codes[0])
    ada.sign_in(here, ada.next_code())
    ada.works_at(there)
    assert httpx.get(f"{here.url}{export}").status_code == 200
    body = {"uid": reset["uid"][0], "token": reset["token"][0], "new_password": PASSWORD + "!"}
    ask(there, "POST", "/auth/password-reset/confirm/", 200, body)

    fail_to_sign_in(here, ada.email)
    assert failed_sign_ins(here) == 3
    ada.request(there, "DELETE", "/users/me/", 204)
    assert failed_sign_ins(here) == 0

    here.manage("auth_rotate_secrets")
    eve = User(here, "eve@clinic.example")
    for site in sites:
        restart(site, dropped)
        for served in sites:
            eve.works_at(served)
    ask(here, "GET", "/auth/user/", 401, access=bob.accesses[0])
    bob.sign_in(here, bob.next_code())
    bob.request(there, "GET", "/auth/user/", 200)
