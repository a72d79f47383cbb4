"""GET /audit-logs/{id}/: one entry, read-only."""

from __future__ import annotations

import pytest
from drf_spectacular.generators import SchemaGenerator
from rest_framework.test import APIClient

from myometrics_audit import audit


@pytest.fixture
def entry(user):
    return audit.record(actor=user, action="upload_created", resource=("upload", "u1"))


def test_entry_has_the_lists_keys_and_its_origin(entry, administrator):
    client = APIClient()
    client.force_authenticate(administrator)
    listed = client.get("/api/audit-logs/").json()["results"]
    assert client.get(f"/api/audit-logs/{entry.pk}/").json() == {
        **listed[0],
        "origin": "server",
    }
    assert "origin" not in listed[0]


def test_entry_requires_an_administrator(entry, user):
    client = APIClient()
    client.force_authenticate(user)
    assert client.get(f"/api/audit-logs/{entry.pk}/").status_code == 403


@pytest.mark.parametrize("method", ["put", "patch", "delete", "post"])
def test_entry_rejects_other_methods(entry, user, administrator, method):
    for caller in (user, administrator):
        client = APIClient()
        client.force_authenticate(caller)
        response = getattr(client, method)(f"/api/audit-logs/{entry.pk}/", {}, format="json")
        assert response.status_code == 405


@pytest.mark.parametrize("entry_id", ["0", "abc", "9" * 40, "-1", "١", "%00", "1_0"])
def test_entry_with_unknown_id_returns_404(db, administrator, entry_id):
    client = APIClient()
    client.force_authenticate(administrator)
    assert client.get(f"/api/audit-logs/{entry_id}/").status_code == 404


def test_entry_schema_describes_the_user_id(entry, administrator):
    document = SchemaGenerator(urlconf="myometrics_audit.urls").get_schema(
        request=None, public=True
    )
    described = document["components"]["schemas"]["EntryDetail"]["properties"]["user_id"]
    assert described == {"type": "string", "format": "uuid", "nullable": True}
    client = APIClient()
    client.force_authenticate(administrator)
    shown = client.get(f"/api/audit-logs/{entry.pk}/").json()["user_id"]
    assert shown == str(entry.user_id)
