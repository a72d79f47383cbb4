"""Metrics of the audit log."""

import math
from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from myometrics_audit.gauges import (
    anchor_lag_seconds,
    seal_lag_seconds,
    verification_age_seconds,
    verification_problems,
)
from myometrics_audit.models import AuditLog, Verification
from myometrics_audit.sealing import seal_pending
from myometrics_audit.sealing.seals import ANCHOR_JOB
from myometrics_core.jobs import run_job
from myometrics_core.observability.metrics import registered_gauges

NOW = timezone.now().replace(microsecond=0)


@pytest.mark.django_db
def test_seal_lag_is_the_age_of_the_oldest_unsealed_entry():
    assert "myometrics_seal_lag_seconds" in {gauge.name for gauge in registered_gauges()}
    assert seal_lag_seconds() == 0
    with time_machine.travel(NOW, tick=False):
        for age in (90, 30):
            moment = timezone.now() - timedelta(seconds=age)
            AuditLog(action="a", resource_type="t", resource_id="1", timestamp=moment).save()
        assert seal_lag_seconds() == 90
    list(seal_pending())
    assert seal_lag_seconds() == 0


@pytest.mark.django_db
def test_anchor_lag_is_the_age_of_the_oldest_unpublished_seal(settings, tmp_path):
    assert "myometrics_anchor_lag_seconds" in {gauge.name for gauge in registered_gauges()}
    assert anchor_lag_seconds() == 0
    with time_machine.travel(NOW, tick=False) as clock:
        _seal_an_entry()
        assert anchor_lag_seconds() == 0
        # A folder can't be written to as a file.
        settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "ANCHOR_FILE": str(tmp_path)}
        _seal_an_entry()
        clock.shift(60)
        _seal_an_entry()
        assert anchor_lag_seconds() == 60
        settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "ANCHOR_FILE": None}
        assert run_job(ANCHOR_JOB, now=True)
        assert anchor_lag_seconds() == 0


@pytest.mark.django_db
def test_verification_gauges_report_the_last_run():
    names = {gauge.name for gauge in registered_gauges()}
    assert {"myometrics_verification_age_seconds", "myometrics_verification_problems"} <= names
    assert (verification_age_seconds(), verification_problems()) == (math.inf, 0)
    with time_machine.travel(timezone.now(), tick=False):
        for age, problems in ((500, 0), (90, 3)):
            at = timezone.now() - timedelta(seconds=age)
            Verification.objects.create(started_at=at, finished_at=at, entries=7, problems=problems)
        assert (verification_age_seconds(), verification_problems()) == (90, 3)


def _seal_an_entry():
    AuditLog(action="a", resource_type="t", resource_id="1").save()
    list(seal_pending())
    run_job(ANCHOR_JOB, now=True)
