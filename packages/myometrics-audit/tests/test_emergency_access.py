"""Emergency access: granted for minutes, checked by permissions, always a finding."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest
import time_machine
from django.contrib.auth.models import Permission
from django.core.exceptions import ImproperlyConfigured, ValidationError
from recording_site.models import Patient
from recording_site.views import PatientSerializer
from rest_framework.generics import ListAPIView, RetrieveAPIView, RetrieveUpdateAPIView
from rest_framework.permissions import BasePermission
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory, force_authenticate
from rest_framework.views import APIView
from rest_framework.viewsets import ReadOnlyModelViewSet

from myometrics_audit.models import AuditLog
from myometrics_audit.review.emergency_access import (
    EMERGENCY_PURPOSE,
    HasEmergencyAccess,
    end_emergency_access,
    grant_emergency_access,
    has_emergency_access,
)
from myometrics_audit.review.models import EmergencyAccess, Finding
from myometrics_audit.tracking import RecordedViewMixin

pytestmark = pytest.mark.django_db
URL = "/api/emergency-access/"
BODY = {"subject": "p1", "reason": "unconscious, no other doctor", "minutes": 30}


class HasCareRelation(BasePermission):
    """A clinic's own rule, which allows no access."""

    def has_object_permission(self, request, view, obj):
        return False


class RecordView(RetrieveAPIView):
    permission_classes = (HasCareRelation | HasEmergencyAccess,)
    queryset = EmergencyAccess.objects.all()

    def get_audit_subject(self, obj):
        return obj.data_subject

    def retrieve(self, request, *args, **kwargs):
        self.get_object()
        return Response({"purpose": request.purpose})


class RecordsView(ListAPIView):
    permission_classes = (HasEmergencyAccess,)


class RecordViewSet(ReadOnlyModelViewSet):
    permission_classes = (HasEmergencyAccess,)
    queryset = EmergencyAccess.objects.all()
    audit_subject = "data_subject"
    retrieve = RecordView.retrieve


class PlainView(APIView):
    permission_classes = (HasEmergencyAccess,)

    def get(self, request, pk):
        return Response("shown without checking an object")


@pytest.fixture
def doctor(user):
    """A user who may use emergency access."""
    user.user_permissions.add(Permission.objects.get(codename="use_emergency_access"))
    return type(user).objects.get(pk=user.pk)


def test_grant_is_an_entry_and_a_finding(user):
    grant = grant_emergency_access(user, "p1", " unconscious ", 30)
    granted, opened = AuditLog.objects.order_by("id")
    assert (granted.action, granted.user) == ("emergency_access_granted", user)
    assert (granted.data_subject, granted.purpose) == ("p1", EMERGENCY_PURPOSE)
    assert granted.details["reason"] == grant.reason == "unconscious"
    assert granted.details["minutes"] == 30
    assert opened.action == "finding_opened"
    finding = Finding.objects.get()
    assert (finding.rule, finding.user, finding.data_subject) == ("emergency_access", user, "p1")
    assert (finding.entries, grant.finding) == ([granted.pk], finding)


def test_grant_expires_and_is_for_one_user_and_subject(user, administrator):
    grant = grant_emergency_access(user, "p1", "unconscious", 30)
    assert has_emergency_access(user, "p1")
    assert not has_emergency_access(user, "p2")
    assert not has_emergency_access(administrator, "p1")
    with time_machine.travel(grant.granted_at + timedelta(minutes=29, seconds=59), tick=False):
        assert has_emergency_access(user, "p1")
    with time_machine.travel(grant.expires_at, tick=False):
        assert not has_emergency_access(user, "p1")


def test_grant_ends_early(user, administrator):
    grant = grant_emergency_access(user, "p1", "unconscious", 30)
    other = grant_emergency_access(user, "p2", "unconscious", 30)
    end_emergency_access(grant, administrator)
    assert not has_emergency_access(user, "p1")
    assert has_emergency_access(user, "p2")
    entry = AuditLog.objects.get(action="emergency_access_ended")
    assert (entry.user, entry.data_subject, entry.purpose) == (administrator, "p1", "BTG")
    assert grant.finding.state == "open"
    with pytest.raises(ValidationError, match="over already"):
        end_emergency_access(grant, administrator)
    with time_machine.travel(other.expires_at), pytest.raises(ValidationError, match="over"):
        end_emergency_access(other, administrator)
    other.refresh_from_db()
    assert other.expires_at - other.granted_at == timedelta(minutes=30)


def test_check_is_one_query(user, django_assert_num_queries):
    grant_emergency_access(user, "p1", "unconscious", 30)
    with django_assert_num_queries(1):
        assert has_emergency_access(user, "p1")


def test_deactivated_user_has_no_emergency_access(user):
    grant_emergency_access(user, "p1", "unconscious", 30)
    user.is_active = False
    assert not has_emergency_access(user, "p1")


def test_principal_with_the_key_of_a_user_has_no_emergency_access(user):
    grant_emergency_access(user, "p1", "unconscious", 30)
    device = SimpleNamespace(pk=user.pk, is_active=True, is_authenticated=True)
    assert not has_emergency_access(device, "p1")


@pytest.mark.parametrize(
    ("subject", "reason", "minutes", "key"),
    [
        ("", "unconscious", 30, "subject"),
        ("p" * 101, "unconscious", 30, "subject"),
        ("p\x00", "unconscious", 30, "subject"),
        ("p1", "  ", 30, "reason"),
        ("p1", "r" * 1001, 30, "reason"),
        ("p1", "unconscious", 0, "minutes"),
        ("p1", "unconscious", 241, "minutes"),
    ],
)
def test_grant_without_reason_or_out_of_bounds_is_refused(user, subject, reason, minutes, key):
    with pytest.raises(ValidationError) as refused:
        grant_emergency_access(user, subject, reason, minutes)
    assert list(refused.value.message_dict) == [key]
    assert not AuditLog.objects.exists()


def test_longest_grant_is_a_setting(user, settings):
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "EMERGENCY_ACCESS_MAX_MINUTES": 10}
    grant_emergency_access(user, "p1", "unconscious", 10)
    with pytest.raises(ValidationError):
        grant_emergency_access(user, "p1", "unconscious", 11)


def request_by(user, method="get", data=None):
    request = getattr(APIRequestFactory(), method)("/", data)
    force_authenticate(request, user)
    return request


def test_permission_allows_the_object_and_sets_the_purpose(user, administrator):
    grant = grant_emergency_access(user, "p1", "unconscious", 30)
    response = RecordView.as_view()(request_by(user), pk=grant.pk)
    assert (response.status_code, response.data) == (200, {"purpose": EMERGENCY_PURPOSE})
    assert RecordView.as_view()(request_by(administrator), pk=grant.pk).status_code == 403
    with time_machine.travel(grant.expires_at):
        assert RecordView.as_view()(request_by(user), pk=grant.pk).status_code == 403


def test_permission_allows_the_route_of_one_object(user):
    grant = grant_emergency_access(user, "p1", "unconscious", 30)
    view = RecordViewSet.as_view({"get": "retrieve"}, detail=True)
    assert view(request_by(user), pk=grant.pk).status_code == 200


class PatientView(RecordedViewMixin, RetrieveUpdateAPIView):
    permission_classes = (HasCareRelation | HasEmergencyAccess,)
    queryset = Patient.objects.all()
    serializer_class = PatientSerializer
    audit_purpose = "TREAT"


@pytest.mark.parametrize(("method", "action"), [("get", "viewed"), ("patch", "updated")])
def test_recorded_view_records_the_purpose(user, method, action):
    patient = Patient.objects.create(number="P-1", name="Pat")
    grant_emergency_access(user, "P-1", "unconscious", 30)
    request = request_by(user, method, {"name": "Kim"})
    assert PatientView.as_view()(request, pk=patient.pk).status_code == 200
    entry = AuditLog.objects.get(action=f"patient_{action}")
    assert (entry.data_subject, entry.purpose) == ("P-1", EMERGENCY_PURPOSE)


def test_recorded_view_records_its_own_purpose_if_access_is_denied(user):
    patient = Patient.objects.create(number="P-1", name="Pat")
    assert PatientView.as_view()(request_by(user), pk=patient.pk).status_code == 403
    entry = AuditLog.objects.get()
    assert (entry.action, entry.purpose) == ("patient_access_denied", "TREAT")


def test_later_denial_is_recorded_with_the_purpose(user, monkeypatch):
    patient = Patient.objects.create(number="P-1", name="Pat")
    grant_emergency_access(user, "P-1", "unconscious", 30)
    permissions = (HasEmergencyAccess, HasCareRelation)
    monkeypatch.setattr(PatientView, "permission_classes", permissions)
    assert PatientView.as_view()(request_by(user), pk=patient.pk).status_code == 403
    entry = AuditLog.objects.get(action="patient_access_denied")
    assert entry.purpose == EMERGENCY_PURPOSE


@pytest.mark.parametrize("subject", [None, ""])
def test_object_without_data_subject_is_denied(user, monkeypatch, subject):
    grant = grant_emergency_access(user, "None", "unconscious", 30)
    monkeypatch.setattr(RecordView, "get_audit_subject", lambda self, obj: subject)
    assert RecordView.as_view()(request_by(user), pk=grant.pk).status_code == 403


def test_path_to_no_data_subject_is_denied(user):
    grant = grant_emergency_access(user, "None", "unconscious", 30)
    EmergencyAccess.objects.update(actor=None)
    EmergencyAccess.objects.create(
        actor=user,
        data_subject="None",
        granted_at=grant.granted_at,
        expires_at=grant.expires_at,
        finding=Finding.objects.create(happened_at=grant.granted_at, severity=1),
    )
    view = RecordViewSet.as_view({"get": "retrieve"}, detail=True, audit_subject="actor_id")
    assert view(request_by(user), pk=grant.pk).status_code == 403


def test_primary_key_is_never_taken_for_the_data_subject(user):
    grant = grant_emergency_access(user, "p1", "unconscious", 30)
    grant_emergency_access(user, str(grant.pk), "unconscious", 30)
    view = RecordViewSet.as_view({"get": "retrieve"}, detail=True, audit_subject="")
    with pytest.raises(ImproperlyConfigured, match="get_audit_subject"):
        view(request_by(user), pk=grant.pk)


@pytest.mark.parametrize(
    "view",
    [
        RecordsView.as_view(),
        RecordViewSet.as_view({"get": "list"}, detail=False),
        RecordViewSet.as_view({"get": "list"}),
        PlainView.as_view(),
    ],
)
def test_permission_never_allows_a_list_or_an_unchecked_view(user, view):
    grant = grant_emergency_access(user, "p1", "unconscious", 30)
    assert view(request_by(user), pk=grant.pk).status_code == 403


def test_endpoint_grants_to_users_with_the_permission(doctor, administrator, client_of):
    response = client_of(doctor).post(URL, BODY, format="json")
    assert response.status_code == 201, response.json()
    grant = EmergencyAccess.objects.get()
    assert response.json()["id"] == grant.pk
    assert response.json()["subject"] == "p1"
    assert set(response.json()) == {"id", "subject", "granted_at", "expires_at"}
    assert (grant.actor, grant.expires_at - grant.granted_at) == (doctor, timedelta(minutes=30))
    assert client_of(administrator).post(URL, BODY, format="json").status_code == 403
    assert client_of(None).post(URL, BODY, format="json").status_code in (401, 403)


def test_endpoint_refuses_a_user_who_was_deleted(doctor, client_of, monkeypatch):
    client = client_of(doctor)
    client.force_authenticate(doctor)  # as if deleted after the authentication
    permissions = doctor.get_all_permissions()
    type(doctor).objects.all().delete()
    monkeypatch.setattr(doctor, "has_perm", permissions.__contains__)
    assert client.post(URL, BODY, format="json").status_code == 401
    assert not Finding.objects.exists()
    assert not EmergencyAccess.objects.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"minutes": 241},
        {"minutes": 0},
        {"minutes": "30"},
        {"minutes": "1_0"},
        {"reason": " "},
        {"subject": ""},
    ],
)
def test_endpoint_reports_what_is_wrong(doctor, client_of, change):
    response = client_of(doctor).post(URL, {**BODY, **change}, format="json")
    assert response.status_code == 400
    assert set(response.json()["field_errors"]) == set(change)


@pytest.mark.parametrize(
    "action",
    [
        "emergency_access_granted",
        "emergency_access_ended",
        "finding_opened",
        "user_updated",
        "login_failed",
        "person_updated",
    ],
)
def test_clients_can_t_post_entries_of_the_review(user, client_of, action):
    body = {"action": action, "resource_type": "finding", "resource_id": "1"}
    response = client_of(user).post("/api/audit-logs/", body, format="json")
    assert response.status_code == 400
