"""Uploads whose user the source names by e-mail address."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from fake_image_service import row

from myometrics_analytics.facts import Origin, UploadEvent, uploads_merge
from myometrics_analytics.facts.services import reports_revoke
from myometrics_analytics.models import LimitDecision, Status, Upload, UploadReport
from myometrics_analytics.pull.image_service import convert_row
from myometrics_analytics.pull.pulling import PULL_ALL_JOB
from myometrics_analytics.rollups import changes_fold, rollups_check
from myometrics_analytics.rollups.rebuilding import facts_clear
from myometrics_core.db import SerializationFailure
from myometrics_core.jobs import Job
from myometrics_core.users import (
    AddressOwners,
    AddressOwnership,
    address_owners_changed,
    register_address_owners,
)
from myometrics_core.users.address_owners import _owners

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 1, 5, 10, tzinfo=timezone.utc)


class ListedOwners(AddressOwners):
    """Owners from :attr:`periods`, by address; :attr:`current` may differ when it is locked."""

    name = "listed"

    def __init__(self):
        self.periods, self.current = {}, None

    def of_addresses(self, addresses):
        return {one: self.periods[one] for one in addresses if one in self.periods}

    def of_keys(self, keys, *, lock):
        periods = self.periods if self.current is None else self.current
        return [one for found in periods.values() for one in found if one.key in keys]


@pytest.fixture
def owners():
    source = ListedOwners()
    register_address_owners(source)
    yield source
    del _owners["listed"]


def own(user, number=1, **period):
    return [AddressOwnership(f"listed:{number}", user.pk, **period)]


def event(address="a@site.test", upload_id="u1", at=NOW, **fields):
    values = {
        "user_id": None,
        "address": address,
        "upload_id": upload_id,
        "uploaded_at": at,
        "status": Status.COMPLETED,
        "origin": Origin.IMAGE_SERVICE,
        **fields,
    }
    return UploadEvent(**values)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("A@Site.test", "A@Site.test"),
        ("7", ""),
        ("nobody", ""),
        (f"{'a' * 400}@site.test", ""),
        ("nul\x00@site.test", ""),
        ("lone\ud800@site.test", ""),
    ],
)
def test_user_id_with_an_at_sign_is_an_address(name, address):
    assert convert_row(row(name), 1).address == address


@pytest.mark.parametrize("address", ["@", "@@", "a@", "a@\u00df.test", "a@" + "x." * 150])
def test_odd_addresses_have_no_owner(owners, address):
    assert uploads_merge(events=[event(address)]).unknown_users == 1


@pytest.mark.parametrize("hours", [-1, 0, 1, 2])
def test_upload_belongs_to_the_owner_at_its_time(owners, user, hours):
    owners.periods = {"a@site.test": own(user, since=NOW, until=NOW + timedelta(hours=2))}
    uploads_merge(events=[event("A@SITE.test", at=NOW + timedelta(hours=hours))])
    assert Upload.objects.count() == (hours in (0, 1))


def test_owner_who_changes_during_the_merge_gets_nothing(owners, user):
    owners.periods = {"a@site.test": own(user)}
    owners.current = {}
    with pytest.raises(SerializationFailure):
        uploads_merge(events=[event()])
    assert not Upload.objects.exists()


def test_revoked_report_leaves_what_else_was_reported(owners, user, publish_upload, report):
    publish_upload(user, "upload_created", "u1", NOW, diagnosis="Infarct")
    owners.periods = {"a@site.test": own(user)}
    before = Upload.objects.values().get()
    earlier = NOW - timedelta(days=3)
    events = [event(at=earlier, filename="x.png"), event(upload_id="u2", diagnosis="Normal")]
    uploads_merge(events=events)
    assert Upload.objects.get(upload_id="u1").uploaded_at == earlier
    changes_fold()
    owners.periods = {}
    assert reports_revoke() == 2
    assert Upload.objects.values().get() == before
    assert not UploadReport.objects.exists()
    assert report()["system_health"]["total_uploads"] == 1
    assert rollups_check() == 0
    changes_fold()
    assert rollups_check() == 0


def test_self_check_takes_back_uploads_of_former_owners(owners, user):
    owners.periods = {"a@site.test": own(user)}
    uploads_merge(events=[event(), event(upload_id="u2", at=NOW + timedelta(hours=1))])
    owners.periods = {"a@site.test": own(user, until=NOW + timedelta(hours=1))}
    assert rollups_check() == 0
    assert Upload.objects.get().upload_id == "u1"


def test_two_addresses_of_one_upload_are_revoked_one_by_one(owners, user):
    owners.periods = {"a@site.test": own(user, 1), "b@site.test": own(user, 2)}
    uploads_merge(events=[event(diagnosis="A"), event("b@site.test", diagnosis="B")])
    assert Upload.objects.get().diagnosis == "A"
    del owners.periods["a@site.test"]
    reports_revoke()
    assert Upload.objects.get().diagnosis == "B"
    owners.periods = {}
    reports_revoke()
    assert not Upload.objects.exists()


def test_revocation_restores_the_daily_limit(owners, user, publish_upload, settings):
    settings.MYOMETRICS_ANALYTICS = {"UPLOADS_PER_USER_PER_DAY": 1}
    for upload_id in ("u1", "u2"):
        publish_upload(user, "upload_created", upload_id, NOW, origin="client")
    owners.periods = {"a@site.test": own(user)}
    uploads_merge(events=[event(upload_id="u2")])
    assert not Upload.objects.filter(over_limit=True).exists()
    facts = Upload.objects.in_bulk(field_name="pk")
    assert len(facts) == 2
    owners.periods = {}
    reports_revoke()
    assert Upload.objects.get(over_limit=True).upload_id == "u2"


def test_clearing_keeps_decisions_and_deletes_reports(owners, user, publish_upload, settings):
    settings.MYOMETRICS_ANALYTICS = {"UPLOADS_PER_USER_PER_DAY": 1}
    for upload_id in ("u1", "u2"):
        publish_upload(user, "upload_created", upload_id, NOW, origin="client")
    owners.periods = {"a@site.test": own(user)}
    uploads_merge(events=[event(upload_id="u2")])
    facts_clear()
    decisions = dict(LimitDecision.objects.values_list("upload_id", "over_limit"))
    assert decisions == {"u1": False, "u2": True}
    assert not UploadReport.objects.exists()


def test_deletion_of_the_user_deletes_the_reports(owners, user):
    owners.periods = {"a@site.test": own(user)}
    uploads_merge(events=[event()])
    user.delete()
    assert not UploadReport.objects.exists()


def test_changed_owners_enqueue_one_pull_if_there_is_a_source(settings):
    address_owners_changed()
    assert not Job.objects.filter(kind=PULL_ALL_JOB).exists()
    settings.MYOMETRICS = {**settings.MYOMETRICS, "MICROSERVICE_URL": "http://127.0.0.1:9"}
    address_owners_changed()
    address_owners_changed()
    assert Job.objects.filter(kind=PULL_ALL_JOB).count() == 1
