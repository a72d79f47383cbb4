"""Examinations of ``manage.py myometrics_doctor``."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine
from django.db import connection
from django.utils import timezone

from myometrics_audit import doctor
from myometrics_audit.log.guards import install_guards, remove_guards
from myometrics_audit.models import Seal, Verification
from myometrics_audit.sealing import seal_pending
from myometrics_audit.sealing.seals import ANCHOR_JOB
from myometrics_core.jobs import run_job
from myometrics_core.times import utc_text

pytestmark = pytest.mark.django_db
KEYS = {"first": "f" * 32, "second": "s" * 32}


def states(examine):
    return {found.name: found.state for found in examine()}


def say(examine):
    return " ".join(f"{found.summary} {found.advice}" for found in examine())


@pytest.mark.django_db(transaction=True)
def test_missing_guard_is_a_problem():
    assert states(doctor.examine_guards) == {"audit guards": "ok"}
    remove_guards("default")
    try:
        assert states(doctor.examine_guards) == {"audit guards": "problem"}
        assert "myometrics_audit_guard_auditlog" in say(doctor.examine_guards)
    finally:
        install_guards("default")


@pytest.mark.django_db(transaction=True)
def test_disabled_trigger_is_a_problem(database_vendor):
    name = "myometrics_audit_guard_leaf"
    with connection.cursor() as cursor:
        if database_vendor == "postgresql":
            cursor.execute(f"ALTER TABLE myometrics_audit_leaf DISABLE TRIGGER {name}_row")
        else:
            cursor.execute(f"DROP TRIGGER {name}_update")
        try:
            assert states(doctor.examine_guards) == {"audit guards": "problem"}
        finally:
            if database_vendor == "postgresql":
                cursor.execute(f"ALTER TABLE myometrics_audit_leaf ENABLE TRIGGER {name}_row")
    install_guards("default")
    assert states(doctor.examine_guards) == {"audit guards": "ok"}


def test_unused_pseudonym_keys_are_reported_as_removable(settings, write):
    settings.MYOMETRICS = {"PSEUDONYM_KEYS": ["n" * 32]}
    assert say(doctor.examine_pseudonym_keys).strip() == "There is one key."
    settings.MYOMETRICS = {"PSEUDONYM_KEYS": ["n" * 32, "o" * 32]}
    assert "All but the first can be removed" in say(doctor.examine_pseudonym_keys)
    failed = write(action="login_failed", user=None, resource_type="user", resource_id="f" * 64)
    said = say(doctor.examine_pseudonym_keys)
    assert utc_text(failed.timestamp) in said
    assert "Only keys that were replaced before that can be removed." in said
    assert "o" * 32 not in said
    assert states(doctor.examine_pseudonym_keys) == {"pseudonym keys": "ok"}


def test_keys_are_reported_as_set_derived_or_lost(settings, write):
    assert states(doctor.examine_keys) == {"audit keys": "warning"}
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "KEYS": KEYS}
    assert states(doctor.examine_keys) == {"audit keys": "ok"}
    write()
    list(seal_pending())
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "KEYS": {"first": "f" * 32}}
    assert states(doctor.examine_keys) == {"audit keys": "problem"}
    assert "second" in say(doctor.examine_keys)
    assert "s" * 32 not in say(doctor.examine_keys)


def test_old_unsealed_entry_is_a_problem(write):
    write()
    assert states(doctor.examine_seals) == {"audit seals": "ok"}
    write(timestamp=timezone.now() - timedelta(hours=2))
    list(seal_pending())
    assert states(doctor.examine_seals) == {"audit seals": "ok"}
    write(timestamp=timezone.now() - timedelta(hours=2))
    assert states(doctor.examine_seals) == {"audit seals": "problem"}
    assert "2 hours old" in say(doctor.examine_seals)


def test_unpublished_anchors_are_a_problem(settings, write, tmp_path):
    assert states(doctor.examine_anchors) == {"audit anchors": "not configured"}
    here = {**settings.MYOMETRICS_AUDIT, "ANCHOR_FILE": str(tmp_path / "anchors")}
    settings.MYOMETRICS_AUDIT = here
    write()
    list(seal_pending())
    assert run_job(ANCHOR_JOB)
    assert states(doctor.examine_anchors) == {"audit anchors": "ok"}
    settings.MYOMETRICS_AUDIT = {**here, "ANCHOR_FILE": str(tmp_path / "none" / "anchors")}
    assert states(doctor.examine_anchors) == {"audit anchors": "problem"}
    settings.MYOMETRICS_AUDIT = here
    Seal.objects.update(anchored_at=None)
    assert states(doctor.examine_anchors) == {"audit anchors": "ok"}
    with time_machine.travel(timezone.now() + timedelta(minutes=6)):
        assert states(doctor.examine_anchors) == {"audit anchors": "problem"}


@pytest.mark.parametrize(
    ("days", "problems", "state"),
    [(None, 0, "warning"), (1, 0, "ok"), (1, 3, "problem"), (40, 0, "warning")],
)
def test_last_verification_is_reported(days, problems, state):
    if days is not None:
        moment = timezone.now() - timedelta(days=days)
        Verification.objects.create(
            started_at=moment, finished_at=moment, entries=1, problems=problems
        )
    assert states(doctor.examine_verification) == {"audit verification": state}
