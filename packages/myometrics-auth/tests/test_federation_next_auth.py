"""The callbacks of the recipe for next-auth, run by Node.js against the API."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model

from myometrics_auth.models import Session
from myometrics_testing.programs import find_server_program
from myometrics_testing.walkthrough import blocks_in

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.program("node")]

PAGE = Path(__file__).parents[3] / "docs" / "recipes" / "next-auth.md"
DRIVER = """
import { callbacks } from './callbacks.mjs';
const { account, later } = JSON.parse(process.argv[2]);
let token = await callbacks.jwt({ token: { name: 'Ada' }, account });
const first = await callbacks.session({ session: {}, token });
const now = Date.now();
Date.now = () => now + later * 1000;
token = await callbacks.jwt({ token });
const second = await callbacks.session({ session: {}, token });
const profile = async (session) => {
  if (!session.accessToken) return null;
  const headers = { Authorization: `Bearer ${session.accessToken}` };
  const answer = await fetch(`${process.env.API_URL}/auth/user/`, { headers });
  return { status: answer.status, body: await answer.json() };
};
const sessions = [first, second];
console.log(JSON.stringify({ sessions, profiles: await Promise.all(sessions.map(profile)) }));
"""


@pytest.fixture
def run_callbacks(tmp_path, live_server):
    """Runs the callbacks of a block of the page for an account, and again ``later`` seconds on."""

    def run(file, account, later):
        (script,) = (
            block.text
            for block in blocks_in(PAGE.read_text())
            if block.text.startswith(f"// {file}\n")
        )
        (tmp_path / "callbacks.mjs").write_text(script)
        (tmp_path / "driver.mjs").write_text(DRIVER)
        given = json.dumps({"account": account, "later": later})
        done = subprocess.run(
            [find_server_program("node"), "driver.mjs", given],
            cwd=tmp_path,
            env={**os.environ, "API_URL": f"{live_server.url}/api"},
            capture_output=True,
            text=True,
            check=False,
        )
        return json.loads(done.stdout) if done.returncode == 0 else done.stderr

    return run


def test_sent_token_signs_in_until_it_expires(provider, configure, run_callbacks):
    configure(
        "google", access_tokens="tokeninfo", tokeninfo_endpoint=f"{provider.issuer}/tokeninfo"
    )
    token = provider.google_token()
    expires_at = int(provider.tokens[token]["exp"])
    account = {"provider": "google", "access_token": token, "expires_at": expires_at}
    found = run_callbacks("send.mjs", account, later=3700)
    assert found["profiles"][0]["body"]["email"] == "ada@clinic.example"
    assert found["sessions"][1]["error"] == "SignInAgain"
    assert found["profiles"][1] is None


def test_exchanged_token_is_refreshed(provider, configure, run_callbacks):
    configure("google")
    account = {"provider": "google", "id_token": provider.id_token()}
    found = run_callbacks("exchange.mjs", account, later=15 * 60)
    assert [profile["status"] for profile in found["profiles"]] == [200, 200]
    first, second = (session["accessToken"] for session in found["sessions"])
    assert first != second
    assert Session.objects.count() == 1


def test_refused_exchange_fails_with_its_code(provider, configure, run_callbacks):
    configure("google", provisioning="link")
    account = {"provider": "google", "id_token": provider.id_token()}
    assert "access_not_allowed" in run_callbacks("exchange.mjs", account, later=0)
    assert not get_user_model().objects.exists()
