"""Requests are retried after serialization failures."""

import pytest
from django.contrib.auth import get_user_model
from django.db import OperationalError, connection, transaction
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory

from myometrics_core.api import PublicApiView
from myometrics_core.db import SerializationFailure, is_serialization_failure
from myometrics_core.events import Event, bus, publish, register_receiver
from myometrics_core.times import utc_now


class Renaming(PublicApiView):
    """Writes a user, and fails ``failures`` times."""

    throttle_bucket = None
    failures = 2
    error = SerializationFailure

    def post(self, request):
        """Write the body."""
        with transaction.atomic():
            get_user_model().objects.create_user(email=request.data["email"], password="x")
            if self.attempts <= self.failures:
                raise self.error("could not serialize access")
        return Response({"attempts": self.attempts})


def post(**options):
    request = APIRequestFactory().post("/", {"email": "a@clinic.example"}, format="json")
    return Renaming.as_view(**options)(request)


@pytest.mark.django_db(transaction=True)
def test_request_is_retried_after_serialization_failures():
    answer = post()
    assert (answer.status_code, answer.data) == (200, {"attempts": 3})
    assert get_user_model().objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_request_is_not_retried_after_other_errors():
    assert post(error=OperationalError).status_code == 500
    assert not get_user_model().objects.exists()


@pytest.mark.django_db(transaction=True)
def test_request_within_a_transaction_is_not_retried():
    with transaction.atomic():
        assert post().status_code == 500


@pytest.mark.django_db
def test_serialization_failure_of_a_receiver_reaches_the_writer(monkeypatch):
    def fail(happened):
        raise SerializationFailure("could not serialize access")

    monkeypatch.setattr(bus, "_receivers", {})
    register_receiver("counts", fail)
    happened = Event(
        id="audit:1",
        actor_id=None,
        action="upload_created",
        resource_type="upload",
        resource_id="u1",
        occurred_at=utc_now(),
    )
    with pytest.raises(SerializationFailure):
        publish(happened)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("state", "expected"), [("40001", True), ("40P01", True), ("57014", False)]
)
def test_serialization_failures_are_recognized_by_sqlstate(state, expected):
    if connection.vendor != "postgresql":
        return  # SQLite's writers are alone
    with pytest.raises(OperationalError) as caught, connection.cursor() as cursor:
        cursor.execute(f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$")
    assert is_serialization_failure(caught.value) is expected
