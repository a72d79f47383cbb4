"""Publish COUNT uploads, or request COUNT exports, over SECONDS, each in a transaction."""

import os
import sys
import time

from myometrics_testing.site_processes import hide_celery

if os.environ["JOB_RUNNER"] != "celery":
    hide_celery()

import django
from django.contrib.auth import get_user_model

from myometrics_core.db import atomic_write
from myometrics_core.events import Event, publish
from myometrics_core.times import utc_now


def publish_upload(number):
    users = get_user_model().objects
    user = users.first() or users.create_user(email="busy@clinic.example")
    event = Event(
        id=f"audit:{number}",
        actor_id=user.pk,
        action="upload_completed",
        resource_type="upload",
        resource_id=f"upload_{number}",
        occurred_at=utc_now(),
    )
    with atomic_write():
        publish(event)


def request_export(number):
    from myometrics_notifications.exports import export_request

    user = get_user_model().objects.create_user(email=f"user{number}@clinic.example")
    export_request(user=user, export_format="csv")


django.setup()
produce = {"uploads": publish_upload, "exports": request_export}[sys.argv[1]]
count, seconds = int(sys.argv[2]), float(sys.argv[3])
for number in range(count):
    produce(number)
    time.sleep(seconds / count)
