"""A custom user model, as docs/embedding/user-model.md describes it."""

from __future__ import annotations

import uuid

from django.db import models

from myometrics_auth.models import AbstractClinicUser


class Person(AbstractClinicUser):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    licence = models.CharField(max_length=40, blank=True)
