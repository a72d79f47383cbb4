"""Exports by mail: the file, its link, and their clean-up."""

from __future__ import annotations

import json
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from django.contrib.auth import get_user_model
from django.core import mail, signing
from django.core.files.storage import FileSystemStorage, default_storage
from django.urls import reverse
from job_runs import deliver_due, job_of, make_due, write_exports
from rest_framework.exceptions import ValidationError
from rest_framework.test import APIClient
from specified import DEFAULT_SWITCHES, ERROR_KEYS

from myometrics_core.jobs import Job, run_all_jobs
from myometrics_core.personal_data import (
    deliver_export,
    erase_user,
    export_chunks,
    export_deliveries,
)
from myometrics_core.times import utc_now
from myometrics_notifications.exports import export_files_sweep, export_request
from myometrics_notifications.models import ExportFile, Message
from myometrics_notifications.services import notification_settings_update

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("media")]

URL = "/api/notifications/exports/"


def files(media):
    return [path for path in media.rglob("*") if path.is_file()]


@pytest.fixture
def mailed(user):
    """Request, write and mail an export; path and query of the mailed link."""

    def make(export_format="csv", user=user):
        export_request(user=user, export_format=export_format)
        write_exports()
        deliver_due()
        link = next(line for line in mail.outbox[-1].body.splitlines() if URL in line)
        assert link.startswith("https://clinic.example/api/")
        return link.removeprefix("https://clinic.example")

    return make


def test_each_download_publishes_an_event(mailed, user, published):
    link = mailed("json")
    published.clear()
    for _ in range(2):
        APIClient().get(link, REMOTE_ADDR="203.0.113.5")

    assert [event.action for event in published] == ["data_exported"] * 2
    event = published[0]
    assert (event.actor_id, event.resource_id) == (user.pk, str(user.pk))
    assert event.details == {"format": "json", "delivery": "link"}
    assert event.client_address == "203.0.113.5"


def test_refused_link_publishes_no_event(mailed, published):
    link = mailed()
    ExportFile.objects.update(expires_at=utc_now() - timedelta(seconds=1))
    published.clear()
    APIClient().get(link)

    assert published == []


def test_link_of_version_0_1_works_until_it_expires(mailed):
    mailed()
    token = signing.dumps(ExportFile.objects.get().pk, salt="myometrics_notifications.export")

    assert APIClient().get(URL, {"token": token}).status_code == 200


@pytest.mark.parametrize("export_format", ["csv", "json"])
def test_link_returns_the_same_file_as_the_endpoint(mailed, user, export_format):
    response = APIClient().get(mailed(export_format))

    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/octet-stream"
    expected = f'attachment; filename="user_data.{export_format}"'
    assert response.headers["Content-Disposition"] == expected
    assert response.getvalue() == b"".join(export_chunks(user, export_format))


def test_export_contains_the_settings(mailed):
    exported = json.loads(APIClient().get(mailed("json")).getvalue())

    assert exported["notification_settings"] == DEFAULT_SWITCHES


def test_export_mail_ignores_switches_and_has_no_unsubscribe_link(mailed, user):
    notification_settings_update(user=user, switches={"email_notifications": False})

    mailed()

    assert mail.outbox[0].subject == "MyoMetrics: your data export is ready"
    assert "List-Unsubscribe" not in mail.outbox[0].extra_headers
    assert URL in mail.outbox[0].alternatives[0][0]


def test_export_endpoint_offers_delivery_by_mail(user):
    assert "email" in export_deliveries()

    sentence = deliver_export("email", user=user, export_format="csv")

    assert "mailed" in sentence
    assert ExportFile.objects.get().user == user


def test_second_request_reuses_the_pending_export(user):
    for _ in range(2):
        export_request(user=user, export_format="csv")
    export_request(user=user, export_format="json")

    assert ExportFile.objects.count() == 2


def test_writing_twice_makes_one_file_and_one_mail(mailed, media):
    mailed()
    write_exports()

    assert len(files(media)) == 1
    assert Message.objects.count() == 1


def test_request_without_mail_address_is_refused(make_user):
    with pytest.raises(ValidationError):
        export_request(user=make_user(email=""), export_format="csv")

    assert ExportFile.objects.count() == 0


def test_signed_link_is_not_stored(mailed):
    token = urlsplit(mailed()).query.removeprefix("token=")

    assert token not in str(list(ExportFile.objects.values()) + list(Message.objects.values()))


def expire(export):
    ExportFile.objects.update(expires_at=utc_now() - timedelta(seconds=1))


def deactivate(export):
    export.user.is_active = False
    export.user.save()


def erase(export):
    erase_user(export.user)


def change_the_password(export):
    export.user.set_password("another-long-password")
    export.user.save()


def lose_the_file(export):
    default_storage.delete(export.storage_name)


@pytest.mark.parametrize("change", [expire, deactivate, erase, change_the_password, lose_the_file])
def test_link_ends_at_once(mailed, change):
    link = mailed()
    change(ExportFile.objects.get())

    response = APIClient().get(link)

    assert response.status_code == 404
    assert set(response.json()) == ERROR_KEYS


def test_link_ends_with_the_age_of_its_signature(mailed, time_machine):
    link = mailed()
    ExportFile.objects.update(expires_at=utc_now() + timedelta(days=365))

    time_machine.move_to(utc_now() + timedelta(days=3))

    assert APIClient().get(link).status_code == 404


@pytest.mark.parametrize("token", ["", "x", "1:2:3", "%00", "x" * 2000, "ä"])
def test_invalid_token_is_refused(db, token):
    response = APIClient().get(f"{URL}?token={token}")

    assert response.status_code in (400, 404)
    assert set(response.json()) == ERROR_KEYS


def test_unsubscribe_token_gives_no_export(mailed):
    mailed()
    foreign = signing.dumps(
        ExportFile.objects.get().pk, salt="myometrics_notifications.unsubscribe"
    )

    assert APIClient().get(f"{URL}?token={foreign}").status_code == 404


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_link_accepts_only_get(mailed, method):
    assert getattr(APIClient(), method)(mailed()).status_code == 405


def test_sweep_deletes_expired_files_only(mailed, media, make_user):
    mailed()
    expire(ExportFile.objects.get())
    kept = make_user()
    export_request(user=kept, export_format="csv")
    write_exports()

    assert export_files_sweep() == 1

    assert [export.user for export in ExportFile.objects.all()] == [kept]
    assert len(files(media)) == 1


def test_undeletable_files_do_not_block_the_sweep(mailed, media):
    mailed()
    expire(ExportFile.objects.get())
    last = ExportFile.objects.get().pk
    ExportFile.objects.bulk_create(
        ExportFile(
            pk=last - number, storage_name=f"../outside/{number}.csv", state=ExportFile.State.READY
        )
        for number in range(1, 201)
    )

    assert export_files_sweep() == 1

    assert files(media) == []
    assert ExportFile.objects.count() == 200


def test_erasure_deletes_row_and_file(mailed, media, user):
    mailed()

    erase_user(user)
    export_files_sweep()

    assert ExportFile.objects.count() == 0
    assert files(media) == []


class ErasingStorage(FileSystemStorage):
    """Erases every user while a file is saved."""

    def save(self, name, content, max_length=None):
        saved = super().save(name, content, max_length)
        for user in get_user_model().objects.all():
            erase_user(user)
        return saved


def test_user_erased_while_the_file_is_written_leaves_no_file(user, media, settings):
    export_request(user=user, export_format="csv")
    storage = {"BACKEND": f"{__name__}.ErasingStorage"}
    settings.STORAGES = {**settings.STORAGES, "default": storage}

    write_exports()

    assert get_user_model().objects.count() == 0
    assert files(media) == []
    assert Message.objects.count() == 0
    assert export_files_sweep() == 1


def test_failing_storage_is_retried(user, media, settings):
    export_request(user=user, export_format="csv")
    export = ExportFile.objects.get()
    settings.MEDIA_ROOT = "/dev/null/nowhere"

    write_exports()
    export.refresh_from_db()
    assert (export.state, job_of(export).attempts) == ("queued", 1)
    assert job_of(export).run_at > utc_now()

    settings.MEDIA_ROOT = str(media)
    make_due()
    write_exports()
    export.refresh_from_db()
    assert export.state == "ready"
    assert len(files(media)) == 1


def test_partial_file_of_a_killed_worker_is_replaced(user, media):
    export_request(user=user, export_format="csv")
    export = ExportFile.objects.get()
    left = media / export.storage_name
    left.parent.mkdir()
    left.write_text("half")

    write_exports()

    assert left.read_bytes() == b"".join(export_chunks(user, "csv"))
    assert len(files(media)) == 1


@pytest.mark.django_db(transaction=True)
def test_concurrent_requests_make_one_file(make_user, run_concurrently):
    user = make_user()

    sentences = run_concurrently(lambda: export_request(user=user, export_format="csv"), times=8)

    assert {type(sentence) for sentence in sentences} == {str}
    assert ExportFile.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_concurrent_workers_write_and_mail_an_export_once(make_user, media, run_concurrently):
    export_request(user=make_user(), export_format="csv")

    attempts = run_concurrently(write_exports, times=4)

    assert sorted(attempts) == [0, 0, 0, 1]
    assert len(files(media)) == 1
    assert Message.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_worker_that_lost_its_claim_leaves_the_file_to_the_other(user, media, monkeypatch):
    export_request(user=user, export_format="csv")
    with monkeypatch.context() as patch:
        patch.setattr(Job, "finish", lambda job: False)
        write_exports()
    assert ExportFile.objects.get().state == "queued"
    assert len(files(media)) == 1
    assert not Message.objects.exists()


def test_export_is_dead_after_its_last_attempt(user, media, settings):
    settings.MYOMETRICS_NOTIFICATIONS = {"MAX_ATTEMPTS": 1}
    settings.MEDIA_ROOT = "/dev/null/nowhere"
    export_request(user=user, export_format="csv")

    write_exports()

    export = ExportFile.objects.get()
    assert (export.state, export.last_error) == ("dead", "NotADirectoryError")
    ExportFile.objects.update(settled_at=utc_now() - timedelta(days=2))
    settings.MEDIA_ROOT = str(media)
    assert export_files_sweep() == 1


@pytest.mark.parametrize("is_requested_again", [False, True])
def test_dead_export_retried_by_the_admin_is_written_once(
    user, media, settings, admin, is_requested_again
):
    settings.MYOMETRICS_NOTIFICATIONS = {"MAX_ATTEMPTS": 1}
    settings.MEDIA_ROOT = "/dev/null/nowhere"
    export_request(user=user, export_format="csv")
    write_exports()
    settings.MEDIA_ROOT = str(media)
    dead = Job.objects.get()
    if is_requested_again:
        export_request(user=user, export_format="csv")

    url = reverse("admin:myometrics_core_job_changelist")
    admin.post(url, {"action": "retry", "_selected_action": [dead.pk]})
    write_exports()

    assert ExportFile.objects.filter(state="ready").count() == 1
    assert len(files(media)) == 1


def test_recurring_jobs_purge_messages_and_delete_files(mailed, media):
    mailed()
    expire(ExportFile.objects.get())
    Message.objects.update(settled_at=utc_now() - timedelta(days=31))

    run_all_jobs()

    assert files(media) == []
    assert not Message.objects.exists()
