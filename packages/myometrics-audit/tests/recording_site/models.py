from __future__ import annotations

import uuid

from django.db import models

from myometrics_audit.tracking import recorded


class Ward(models.Model):
    name = models.CharField(max_length=50)

    def __str__(self):
        return self.name


@recorded(masked=["phone"], many_to_many=["wards"], data_subject="number", soft_delete="deleted_at")
class Patient(models.Model):
    number = models.CharField(max_length=20, unique=True)
    name = models.CharField(max_length=50)
    phone = models.CharField(max_length=20, blank=True)
    owner = models.CharField(max_length=100, blank=True)
    wards = models.ManyToManyField(Ward, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True)

    def __str__(self):
        return self.name


@recorded(data_subject="patient__number")
class Visit(models.Model):
    patient = models.ForeignKey(Patient, on_delete=models.CASCADE, related_name="visits")
    reason = models.CharField(max_length=50)

    def __str__(self):
        return self.reason


@recorded(data_subject="patient__number")
class Letter(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    patient = models.ForeignKey(Patient, on_delete=models.CASCADE, related_name="letters")
    text = models.CharField(max_length=50)

    def __str__(self):
        return self.text


class Invoice(models.Model):
    """Not recorded."""

    number = models.CharField(max_length=20)
    subject = models.CharField(max_length=20, blank=True)

    def __str__(self):
        return self.number
