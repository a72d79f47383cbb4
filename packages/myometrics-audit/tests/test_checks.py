"""System checks."""

from __future__ import annotations

import pytest
from audit_test_settings import MYOMETRICS_AUDIT
from django.core import checks
from django.db import connection

from myometrics_audit.log.guards import install_guards, remove_guards
from myometrics_audit.log.recordings import MIDDLEWARE

KEY = {"CHECKPOINT_KEY": MYOMETRICS_AUDIT["CHECKPOINT_KEY"]}
"""What the installed app ``checkpoints`` needs."""


def ids(**kwargs):
    messages = checks.run_checks(**kwargs)
    return {m.id for m in messages if (m.id or "").startswith("myometrics_audit.")}


@pytest.mark.parametrize(
    ("in_transactions", "middleware", "expected"),
    [
        (True, [], {"myometrics_audit.W015"}),
        (True, [MIDDLEWARE], set()),
        (False, [], set()),
    ],
    ids=["missing", "present", "not_needed"],
)
def test_atomic_requests_need_the_middleware(
    settings, monkeypatch, in_transactions, middleware, expected
):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", in_transactions)
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, *middleware]
    assert ids() == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({}, set()),
        ({"ON_USER_DELETE": "retain"}, set()),
        ({"KEYS": {"2026": "k" * 32}, "ACTIVE_KEY": "2026"}, set()),
        ([], {"myometrics_audit.E001"}),
        ({"ON_USER_DELET": "retain"}, {"myometrics_audit.E002"}),
        ({"ON_USER_DELETE": "delete"}, {"myometrics_audit.E003"}),
        ({"ON_USER_DELETE": 1}, {"myometrics_audit.E003"}),
        ({"KEYS": {"a": "short"}}, {"myometrics_audit.E003"}),
        ({"KEYS": {"a" * 33: "k" * 32}}, {"myometrics_audit.E003"}),
        ({"KEYS": ["k" * 32]}, {"myometrics_audit.E003"}),
        ({"SEAL_BATCH_SIZE": 0}, {"myometrics_audit.E003"}),
        ({"ANCHOR_HOOK": "no.such.module"}, {"myometrics_audit.E003"}),
        ({"USER_AGENT_MAX_LENGTH": -1}, {"myometrics_audit.E003"}),
        ({"ALLOW_FLUSH": "yes"}, {"myometrics_audit.E003"}),
        ({"KEYS": {"a": "k" * 32}, "ACTIVE_KEY": "b"}, {"myometrics_audit.E010"}),
    ],
    ids=str,
)
def test_invalid_settings_are_reported(settings, value, expected):
    settings.MYOMETRICS_AUDIT = {**KEY, **value} if isinstance(value, dict) else value
    assert ids() == expected


@pytest.mark.django_db
def test_missing_guards_are_reported_until_migrate():
    remove_guards(connection.alias)
    assert ids(databases=["default"]) == {"myometrics_audit.W011"}
    install_guards(connection.alias)
    assert ids(databases=["default"]) == set()


def test_deployment_check_requires_keys_and_no_test_settings(settings):
    settings.MYOMETRICS_AUDIT = {**KEY, "ALLOW_FLUSH": True}
    assert ids(include_deployment_checks=True) == {
        "myometrics_audit.W013",
        "myometrics_audit.W014",
    }
    settings.MYOMETRICS_AUDIT = {**KEY, "KEYS": {"2026": "k" * 32}}
    assert ids(include_deployment_checks=True) == set()
