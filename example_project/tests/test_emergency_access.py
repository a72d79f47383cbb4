"""The site serves emergency access, and documents it."""

from __future__ import annotations

import pytest
from conftest import assert_error, client_of, send_json
from django.contrib.auth.models import Permission
from drf_spectacular.generators import SchemaGenerator

from myometrics_audit.models import AuditLog

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unlimited", "cheap_hashes")]
URL = "/api/emergency-access/"
BODY = {"subject": "p-1", "reason": "unconscious", "minutes": 30}


def test_user_with_the_permission_grants_themselves_access(doctor):
    assert_error(send_json(client_of(doctor), "POST", URL, BODY), 403)
    doctor.user_permissions.add(Permission.objects.get(codename="use_emergency_access"))
    assert send_json(client_of(doctor), "POST", URL, BODY).status_code == 201
    entry = AuditLog.objects.get(action="emergency_access_granted")
    assert (entry.user_id, entry.data_subject) == (doctor.pk, "p-1")


def test_endpoint_is_in_the_api_document():
    assert URL in SchemaGenerator().get_schema(request=None, public=True)["paths"]
