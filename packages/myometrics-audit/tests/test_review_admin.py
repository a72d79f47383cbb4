"""The admin pages of the review."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone
from types import ModuleType

import pytest
import time_machine
from django.contrib.admin import AdminSite
from django.contrib.admin import site as default_site
from django.contrib.auth.models import Permission
from django.test import override_settings
from django.urls import path

from myometrics_audit.admin import AuditLogAdmin
from myometrics_audit.models import AuditLog
from myometrics_audit.review import admin
from myometrics_audit.review.emergency_access import (
    grant_emergency_access,
    has_emergency_access,
)
from myometrics_audit.review.models import Finding, Review
from myometrics_audit.review.scanning import scan_pending
from myometrics_audit.sealing import seal_pending

pytestmark = pytest.mark.django_db
MONDAY = datetime(2026, 11, 2, 9, 0, tzinfo=timezone.utc)
FINDINGS = "/admin/myometrics_audit_review/finding/"
REVIEWS = "/admin/myometrics_audit_review/review/"


def vip(data_subjects):
    return data_subjects & {"chancellor"}


@pytest.fixture
def finding(write, settings):
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "REVIEW_VIP": vip}
    write(timestamp=MONDAY, data_subject="chancellor")
    list(seal_pending())
    list(scan_pending())
    return Finding.objects.get()


@pytest.fixture
def staff(client, administrator):
    """A function that signs a member of staff in, with these permissions."""

    def sign_in(*codenames):
        administrator.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client.force_login(administrator)
        return client

    return sign_in


def act(client, url, action, row, **fields):
    data = {"action": action, "_selected_action": [row.pk], **fields}
    return client.post(url, data, follow=True).content.decode()


def test_reviewer_assigns_and_dismisses_with_a_reason(staff, finding, administrator):
    client = staff("view_finding", "decide_finding")
    page = client.get(FINDINGS).content.decode()
    assert "Access to a person on the VIP list" in page
    act(client, FINDINGS, "assign_to_me", finding)
    finding.refresh_from_db()
    assert finding.assignee == administrator
    question = act(client, FINDINGS, "dismiss", finding)
    assert "Reason" in question
    assert "1 entry" in question
    finding.refresh_from_db()
    assert finding.state == "open"
    shown = re.search(r'name="seen" value="([^"]*)"', question)[1]
    act(client, FINDINGS, "dismiss", finding, text="ward round", seen=shown)
    finding.refresh_from_db()
    assert (finding.state, finding.reason) == ("dismissed", "ward round")
    assert finding.decided_by == administrator


def test_refusal_is_shown(staff, finding, administrator):
    Finding.objects.update(user=administrator)
    client = staff("view_finding", "decide_finding")
    page = act(client, FINDINGS, "confirm", finding, text="mine", seen=f"{finding.pk}:1:open")
    assert "is about yourself" in page
    finding.refresh_from_db()
    assert finding.state == "open"


def test_actions_need_the_permission(staff, finding):
    client = staff("view_finding")
    act(client, FINDINGS, "dismiss", finding, text="no", seen=f"{finding.pk}:1:open")
    finding.refresh_from_db()
    assert finding.state == "open"
    assert "Dismiss with a reason" not in client.get(FINDINGS).content.decode()
    assert staff().get(FINDINGS).status_code == 403


def test_entries_that_the_page_did_not_show_are_not_decided(staff, finding, write):
    client = staff("view_finding", "decide_finding")
    act(client, FINDINGS, "dismiss", finding)
    write(timestamp=MONDAY, data_subject="chancellor")
    list(seal_pending())
    list(scan_pending())
    page = act(client, FINDINGS, "dismiss", finding, text="known", seen=f"{finding.pk}:1:open")
    assert "has new entries" in page
    for seen in ("", "nonsense", f"{finding.pk}:2:", f"{finding.pk + 1}:2:open"):
        act(client, FINDINGS, "dismiss", finding, text="known", seen=seen)
    finding.refresh_from_db()
    assert finding.state == "open"
    act(client, FINDINGS, "dismiss", finding, text="known", seen=f"{finding.pk}:2:open")
    finding.refresh_from_db()
    assert finding.state == "dismissed"


def test_decision_that_the_page_did_not_show_is_not_replaced(staff, finding):
    client = staff("view_finding", "decide_finding")
    act(client, FINDINGS, "confirm", finding, text="", seen=f"{finding.pk}:1:open")
    page = act(client, FINDINGS, "dismiss", finding, text="ok", seen=f"{finding.pk}:1:open")
    assert f"Finding {finding.pk} is decided." in page
    finding.refresh_from_db()
    assert finding.state == "confirmed"
    act(client, FINDINGS, "dismiss", finding, text="ok", seen=f"{finding.pk}:1:confirmed")
    finding.refresh_from_db()
    assert finding.state == "dismissed"


def test_all_findings_of_a_filter_are_decided_at_once(staff, finding, settings):
    settings.DATA_UPLOAD_MAX_NUMBER_FIELDS = 50
    finding.refresh_from_db()
    first, rows = finding.pk, []
    for number in range(2, 120):
        rows.append(Finding(**{**values_of(finding), "number": number}))
    Finding.objects.bulk_create(rows)
    client = staff("view_finding", "decide_finding")
    url = f"{FINDINGS}?state__exact=open"
    page = act(client, url, "dismiss", finding, select_across="1")
    Finding.objects.create(**{**values_of(finding), "number": 120})
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))
    del fields["csrfmiddlewaretoken"]
    client.post(url, {**fields, "text": "known"})
    dismissed = Finding.objects.filter(state="dismissed")
    assert dismissed.count() == 119
    assert dismissed.filter(pk=first).exists()


def values_of(finding):
    names = [field.attname for field in Finding._meta.concrete_fields if not field.primary_key]
    return {name: getattr(finding, name) for name in names}


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("rule__exact=vip", 1),
        ("rule=vip", 1),
        ("rule=outside_hours", 0),
        ("state__exact=open", 1),
        ("state__exact=confirmed", 0),
        ("assigned=me", 0),
        ("assigned=none", 1),
        ("severity__exact=3", 1),
        ("q=chancellor", 1),
        ("q=chance", 0),
    ],
)
def test_filters_narrow_the_list(staff, finding, query, count):
    page = staff("view_finding").get(f"{FINDINGS}?{query}", follow=True).content.decode()
    assert page.count('class="field-data_subject"') == count


def test_page_of_a_finding_links_to_its_entries(staff, finding):
    client = staff("view_finding", "view_auditlog")
    page = client.get(f"{FINDINGS}{finding.pk}/change/").content.decode()
    (entry_id,) = finding.entries
    assert f"/admin/myometrics_audit/auditlog/{entry_id}/change/" in page


@pytest.mark.parametrize("shows_entries", [True, False])
def test_entries_are_linked_on_the_same_admin_site(finding, shows_entries):
    site = AdminSite("clinic")
    site.register(Finding, admin.FindingAdmin)
    if shows_entries:
        site.register(AuditLog, AuditLogAdmin)
    (entry_id,) = finding.entries
    urls = ModuleType("urls")
    urls.urlpatterns = [path("admin/", default_site.urls), path("clinic/", site.urls)]
    with override_settings(ROOT_URLCONF=urls):
        links = site._registry[Finding].entry_links(finding)
    url = f"/clinic/myometrics_audit/auditlog/{entry_id}/change/"
    assert links == (f'<a href="{url}">{entry_id}</a>' if shows_entries else str(entry_id))


def test_list_runs_a_constant_number_of_queries(staff, finding, django_assert_max_num_queries):
    client = staff("view_finding", "decide_finding")
    for number in range(2, 30):
        finding.pk, finding.number = None, number
        finding.save(force_insert=True)
    with django_assert_max_num_queries(12):
        client.get(FINDINGS)


def test_review_is_added_and_signed_off(staff, finding, administrator):
    client = staff("add_review", "view_review", "change_review", "sign_off_review")
    period = {"start": "2026-11-02", "end": "2026-11-08"}
    client.post(f"{REVIEWS}add/", period)
    review = Review.objects.get()
    assert (
        "Another review"
        in client.post(f"{REVIEWS}add/", {**period, "start": "2026-11-03"}).content.decode()
    )
    with time_machine.travel(MONDAY + timedelta(days=30)):
        staff("add_review", "view_review", "change_review", "sign_off_review")
        list(seal_pending())
        list(scan_pending())
        assert "1 findings are open" in act(client, REVIEWS, "sign_off", review, text="fine")
        Finding.objects.update(state=Finding.State.CONFIRMED)
        act(client, REVIEWS, "sign_off", review, text="fine")
        review.refresh_from_db()
        assert (review.signed_by, review.comment) == (administrator, "fine")
        client.post(f"{REVIEWS}{review.pk}/change/", {**period, "end": "2026-11-09"})
    review.refresh_from_db()
    assert review.end == date(2026, 11, 8)


def test_older_page_of_a_review_can_t_undo_its_sign_off(staff, administrator, monkeypatch):
    client = staff("view_review", "change_review")
    review = Review.objects.create(start=date(2026, 11, 2), end=date(2026, 11, 8))
    validate = admin.validate_period

    def sign_off_concurrently(period):
        validate(period)
        Review.objects.update(signed_by=administrator, signed_at=MONDAY, comment="fine")

    monkeypatch.setattr(admin, "validate_period", sign_off_concurrently)
    days = {"start": "2026-11-02", "end": "2026-11-09"}
    assert client.post(f"{REVIEWS}{review.pk}/change/", days).status_code == 403
    review.refresh_from_db()
    assert review.end == date(2026, 11, 8)


def test_days_of_an_open_review_can_be_changed(staff):
    client = staff("view_review", "change_review")
    review = Review.objects.create(start=date(2026, 11, 2), end=date(2026, 11, 8))
    days = {"start": "2026-11-02", "end": "2026-11-09"}
    client.post(f"{REVIEWS}{review.pk}/change/", days)
    review.refresh_from_db()
    assert review.end == date(2026, 11, 9)


def test_emergency_accesses_are_listed_with_their_reason(staff, user):
    grant = grant_emergency_access(user, "p1", "unconscious patient", 30)
    client = staff("view_emergencyaccess", "view_finding")
    page = client.get("/admin/myometrics_audit_review/emergencyaccess/").content.decode()
    assert "p1" in page
    page = client.get(f"{FINDINGS}{grant.finding_id}/change/").content.decode()
    assert "unconscious patient" in page


def test_reviewer_ends_a_running_emergency_access(staff, user, administrator):
    grant = grant_emergency_access(user, "p1", "unconscious patient", 30)
    url = "/admin/myometrics_audit_review/emergencyaccess/"
    act(staff("view_emergencyaccess"), url, "end", grant)
    assert has_emergency_access(user, "p1")
    client = staff("view_emergencyaccess", "decide_finding")
    assert "1 done." in act(client, url, "end", grant)
    assert not has_emergency_access(user, "p1")
    ended = AuditLog.objects.get(action="emergency_access_ended")
    assert (ended.user, ended.data_subject) == (administrator, "p1")
    assert "over already" in act(client, url, "end", grant)
