"""Publish COUNT completed uploads of one new user over SECONDS, each in a transaction."""

import sys
import time

import django
from django.contrib.auth import get_user_model
from django.db import transaction

from myometrics_core.events import Event, publish
from myometrics_core.times import utc_now


def produce(count, seconds):
    user = get_user_model().objects.create_user(email="busy@clinic.example")
    for number in range(count):
        event = Event(
            id=f"audit:{number}",
            actor_id=user.pk,
            action="upload_completed",
            resource_type="upload",
            resource_id=f"upload_{number}",
            occurred_at=utc_now(),
        )
        with transaction.atomic():
            publish(event)
        time.sleep(seconds / count)


django.setup()
produce(int(sys.argv[1]), float(sys.argv[2]))
