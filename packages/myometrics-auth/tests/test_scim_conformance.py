"""The public conformance suites against a running server."""

import io
import json
from contextlib import redirect_stdout
from datetime import timedelta

import pytest

pytest.importorskip("scim2_server", reason="SCIM needs Python 3.11")

import httpx2
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_tester import Status, check_server
from scim_sanity.probe.runner import run_probe

from myometrics_auth.scim.provisioning_tokens import token_create
from myometrics_testing.waiting import PATIENCE

BAD = (Status.ERROR, Status.CRITICAL)


@pytest.fixture
def address(live_server, settings):
    settings.MYOMETRICS_AUTH = {"SCIM": {"entra": {}}}
    return f"{live_server.url}/scim/v2/entra"


@pytest.fixture
def token(address):
    return token_create(provider="entra", lifetime=timedelta(days=1))[1]


def test_scim2_tester_finds_no_error(address, token):
    headers = {"Authorization": f"Bearer {token}"}
    with httpx2.Client(base_url=address, headers=headers, timeout=PATIENCE) as http:
        results = check_server(SyncSCIMClient(http))
    assert len(results) > 50
    problems = [f"{r.title} {r.resource_type}: {r.reason}" for r in results if r.status in BAD]
    assert problems == []


def test_scim_sanity_finds_no_failure(address, token):
    output = io.StringIO()
    with redirect_stdout(output):
        code = run_probe(address, token, accept_side_effects=True, json_output=True)
    report = json.loads(output.getvalue())
    assert code == 0, report
