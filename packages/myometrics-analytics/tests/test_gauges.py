"""Gauges of analytics."""

from datetime import timedelta

import pytest
import time_machine
from django.test import override_settings

from myometrics_analytics.gauges import pending_changes, sync_age_seconds, sync_failures
from myometrics_analytics.models import PendingChange, PullState
from myometrics_analytics.pull.pulling import PULL_JOB
from myometrics_core.jobs import Job
from myometrics_core.observability.metrics import registered_gauges
from myometrics_core.times import utc_now


@pytest.mark.django_db
@override_settings(MYOMETRICS={"MICROSERVICE_URL": "http://images.example"})
def test_sync_age_is_the_time_since_the_last_success():
    names = {gauge.name for gauge in registered_gauges()}
    assert {"myometrics_sync_age_seconds", "myometrics_sync_failures"} <= names
    PullState.objects.all().delete()
    assert sync_age_seconds() is None
    with time_machine.travel(utc_now(), tick=False):
        PullState.objects.create(succeeded_at=utc_now() - timedelta(seconds=90))
        assert sync_age_seconds() == 90
    assert sync_failures() == 0
    Job.objects.create(kind=PULL_JOB, key="", attempts=3)
    assert sync_failures() == 3


@pytest.mark.django_db
def test_gauges_without_image_service_have_no_value():
    assert sync_age_seconds() is None
    assert sync_failures() is None


@pytest.mark.django_db
def test_pending_changes_are_counted():
    PendingChange.objects.create(day=utc_now().date(), status="completed", uploads=1)
    assert pending_changes() == 1
