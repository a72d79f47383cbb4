"""A host's own tables about users: each keeps its user from being deleted in another way."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import models


class Report(models.Model):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)


class Note(models.Model):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.RESTRICT)


class Ledger(models.Model):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.DO_NOTHING)


class Badge(models.Model):
    code = models.CharField(max_length=10, unique=True)


class ArchivedUser(get_user_model()):
    """A user whose row stays when it is deleted, as in many sites."""

    class Meta:
        proxy = True

    def delete(self, *args, **kwargs):
        self.is_active = False
        self.save()
