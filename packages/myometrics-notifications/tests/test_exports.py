"""Exports by mail: a file, a link that expires, and nothing left behind."""

from __future__ import annotations

import json
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from django.contrib.auth import get_user_model
from django.core import mail, signing
from django.core.files.storage import FileSystemStorage, default_storage
from rest_framework.exceptions import ValidationError
from rest_framework.test import APIClient
from specified import DEFAULT_SWITCHES, ERROR_KEYS

from myometrics_core.personal_data import (
    deliver_export,
    erase_user,
    export_chunks,
    export_deliveries,
)
from myometrics_core.times import utc_now
from myometrics_notifications.delivery import messages_sweep
from myometrics_notifications.exports import export_files_sweep, export_generate, export_request
from myometrics_notifications.models import ExportFile, Message
from myometrics_notifications.services import notification_settings_update

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("media")]

URL = "/api/notifications/exports/"


def files(media):
    return [path for path in media.rglob("*") if path.is_file()]


@pytest.fixture
def mailed(person):
    """Request, write and mail an export; path and query of the mailed link."""

    def make(export_format="csv", user=person):
        export_request(user=user, export_format=export_format)
        export_generate(export_id=ExportFile.objects.latest("pk").pk)
        messages_sweep()
        link = next(line for line in mail.outbox[-1].body.splitlines() if URL in line)
        assert link.startswith("https://clinic.example/api/")
        return link.removeprefix("https://clinic.example")

    return make


def test_download_by_link_is_published_each_time(mailed, person, published):
    link = mailed("json")
    published.clear()
    for _ in range(2):
        APIClient().get(link, REMOTE_ADDR="203.0.113.5")

    assert [event.action for event in published] == ["data_exported"] * 2
    event = published[0]
    assert (event.actor_id, event.resource_id) == (person.pk, str(person.pk))
    assert event.details == {"format": "json", "delivery": "link"}
    assert event.client_address == "203.0.113.5"


def test_link_that_is_refused_is_no_download(mailed, published):
    link = mailed()
    ExportFile.objects.update(expires_at=utc_now() - timedelta(seconds=1))
    published.clear()
    APIClient().get(link)

    assert published == []


def test_link_of_the_version_before_works_until_it_expires(mailed):
    mailed()
    token = signing.dumps(ExportFile.objects.get().pk, salt="myometrics_notifications.export")

    assert APIClient().get(URL, {"token": token}).status_code == 200


@pytest.mark.parametrize("export_format", ["csv", "json"])
def test_the_link_gives_the_very_file_that_the_endpoint_streams(mailed, person, export_format):
    response = APIClient().get(mailed(export_format))

    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/octet-stream"
    expected = f'attachment; filename="user_data.{export_format}"'
    assert response.headers["Content-Disposition"] == expected
    assert response.getvalue() == b"".join(export_chunks(person, export_format))


def test_the_export_holds_the_settings(mailed):
    exported = json.loads(APIClient().get(mailed("json")).getvalue())

    assert exported["notification_settings"] == DEFAULT_SWITCHES


def test_the_mail_goes_out_whatever_the_switches_say_and_offers_no_unsubscribing(mailed, person):
    notification_settings_update(user=person, switches={"email_notifications": False})

    mailed()

    assert mail.outbox[0].subject == "MyoMetrics: your data export is ready"
    assert "List-Unsubscribe" not in mail.outbox[0].extra_headers
    assert URL in mail.outbox[0].alternatives[0][0]


def test_the_delivery_is_offered_to_the_export_endpoint(person):
    assert "email" in export_deliveries()

    sentence = deliver_export("email", user=person, export_format="csv")

    assert "mailed" in sentence
    assert ExportFile.objects.get().user == person


def test_asking_twice_while_it_is_prepared_makes_one_file(person):
    for _ in range(2):
        export_request(user=person, export_format="csv")
    export_request(user=person, export_format="json")

    assert ExportFile.objects.count() == 2


def test_writing_twice_makes_one_file_and_one_mail(mailed, media):
    mailed()
    export_generate(export_id=ExportFile.objects.get().pk)

    assert len(files(media)) == 1
    assert Message.objects.count() == 1


def test_somebody_without_an_address_is_refused(make_person):
    with pytest.raises(ValidationError):
        export_request(user=make_person(email=""), export_format="csv")

    assert ExportFile.objects.count() == 0


def test_neither_row_nor_message_holds_the_signed_link(mailed):
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
def test_a_link_stops_working_at_once(mailed, change):
    link = mailed()
    change(ExportFile.objects.get())

    response = APIClient().get(link)

    assert response.status_code == 404
    assert set(response.json()) == ERROR_KEYS


def test_a_link_stops_working_by_its_own_signature_too(mailed, time_machine):
    link = mailed()
    ExportFile.objects.update(expires_at=utc_now() + timedelta(days=365))

    time_machine.move_to(utc_now() + timedelta(days=3))

    assert APIClient().get(link).status_code == 404


@pytest.mark.parametrize("token", ["", "x", "1:2:3", "%00", "x" * 2000, "ä"])
def test_a_token_that_is_not_ours_gives_nothing(db, token):
    response = APIClient().get(f"{URL}?token={token}")

    assert response.status_code in (400, 404)
    assert set(response.json()) == ERROR_KEYS


def test_a_token_for_unsubscribing_gives_no_export(mailed):
    mailed()
    foreign = signing.dumps(
        ExportFile.objects.get().pk, salt="myometrics_notifications.unsubscribe"
    )

    assert APIClient().get(f"{URL}?token={foreign}").status_code == 404


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_a_link_can_only_be_read(mailed, method):
    assert getattr(APIClient(), method)(mailed()).status_code == 405


def test_expired_files_are_swept_and_the_others_kept(mailed, media, make_person):
    mailed()
    expire(ExportFile.objects.get())
    kept = make_person()
    export_request(user=kept, export_format="csv")
    export_generate(export_id=ExportFile.objects.get(user=kept).pk)

    assert export_files_sweep() == 1

    assert [export.user for export in ExportFile.objects.all()] == [kept]
    assert len(files(media)) == 1


def test_files_that_can_not_be_deleted_do_not_keep_others_from_it(mailed, media):
    mailed()
    expire(ExportFile.objects.get())
    ExportFile.objects.bulk_create(
        ExportFile(
            storage_name=f"../outside/{number}.csv",
            state=ExportFile.State.READY,
            next_attempt_at=utc_now() - timedelta(days=9),
        )
        for number in range(200)
    )

    assert [export_files_sweep() for _ in range(2)] == [0, 1]

    assert files(media) == []
    assert ExportFile.objects.count() == 200


def test_erasure_leaves_neither_row_nor_file(mailed, media, person):
    mailed()

    erase_user(person)
    export_files_sweep()

    assert ExportFile.objects.count() == 0
    assert files(media) == []


class StorageThatTakesItsTime(FileSystemStorage):
    """So long that everybody has been erased when the file is there."""

    def save(self, name, content, max_length=None):
        saved = super().save(name, content, max_length)
        for person in get_user_model().objects.all():
            erase_user(person)
        return saved


def test_a_person_erased_while_the_file_is_written_leaves_none(person, media, settings):
    export_request(user=person, export_format="csv")
    slow = {"BACKEND": f"{__name__}.StorageThatTakesItsTime"}
    settings.STORAGES = {**settings.STORAGES, "default": slow}

    export_generate(export_id=ExportFile.objects.get().pk)

    assert get_user_model().objects.count() == 0
    assert files(media) == []
    assert Message.objects.count() == 0
    assert export_files_sweep() == 1


def test_a_storage_that_fails_is_tried_again(person, media, settings):
    export_request(user=person, export_format="csv")
    export = ExportFile.objects.get()
    settings.MEDIA_ROOT = "/dev/null/nowhere"

    export_generate(export_id=export.pk)
    export.refresh_from_db()
    assert (export.state, export.attempts) == ("queued", 1)
    assert export.next_attempt_at > utc_now()

    settings.MEDIA_ROOT = str(media)
    ExportFile.objects.update(next_attempt_at=utc_now())
    export_generate(export_id=export.pk)
    export.refresh_from_db()
    assert export.state == "ready"
    assert len(files(media)) == 1


def test_a_half_written_file_of_a_killed_worker_is_replaced(person, media):
    export_request(user=person, export_format="csv")
    export = ExportFile.objects.get()
    left = media / export.storage_name
    left.parent.mkdir()
    left.write_text("half")

    export_generate(export_id=export.pk)

    assert left.read_bytes() == b"".join(export_chunks(person, "csv"))
    assert len(files(media)) == 1


@pytest.mark.django_db(transaction=True)
def test_asking_many_times_at_once_makes_one_file(make_person, run_concurrently):
    person = make_person()

    sentences = run_concurrently(lambda: export_request(user=person, export_format="csv"), times=8)

    assert {type(sentence) for sentence in sentences} == {str}
    assert ExportFile.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_workers_at_one_export_write_and_mail_it_once(make_person, media, run_concurrently):
    export_request(user=make_person(), export_format="csv")
    pk = ExportFile.objects.get().pk

    outcomes = run_concurrently(lambda: export_generate(export_id=pk), times=4)

    assert sorted(outcomes) == [False, False, False, True]
    assert len(files(media)) == 1
    assert Message.objects.count() == 1
    assert ExportFile.objects.get().attempts == 1
