"""Event bus: subscriptions, failing receivers, batches and replay."""

from dataclasses import replace

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, transaction

from myometrics_core.db import SerializationFailure
from myometrics_core.events import (
    Event,
    bus,
    publish,
    publish_many,
    register_receiver,
    register_source,
    replay_events,
)
from myometrics_core.times import utc_now


@pytest.fixture(autouse=True)
def _registries(monkeypatch):
    monkeypatch.setattr(bus, "_receivers", {})
    monkeypatch.setattr(bus, "_sources", {})


def event(number=1, resource_type="upload"):
    return Event(
        id=f"audit:{number}",
        actor_id=None,
        action="upload_created",
        resource_type=resource_type,
        resource_id="u1",
        occurred_at=utc_now(),
    )


def write_user(happened):
    get_user_model().objects.create_user(email=f"{happened.id[6:]}@clinic.example", password="x")


def test_source_is_the_part_before_the_colon():
    assert event().source == "audit"


@pytest.mark.django_db
def test_receiver_gets_only_events_it_subscribes_to():
    received = []
    register_receiver("all", lambda happened: received.append(("all", happened.id)))
    register_receiver(
        "uploads",
        lambda happened: received.append(("uploads", happened.id)),
        resource_types={"upload"},
    )
    publish(event(1))
    publish(event(2, resource_type="session"))
    assert received == [("all", "audit:1"), ("uploads", "audit:1"), ("all", "audit:2")]


@pytest.mark.django_db
def test_failed_receiver_is_rolled_back_and_logged_alone(caplog):
    def write_and_fail(happened):
        write_user(happened)
        raise RuntimeError("no")

    register_receiver("faulty", write_and_fail)
    register_receiver("good", lambda happened: write_user(event(7)))
    publish(event())
    emails = get_user_model().objects.values_list("email", flat=True)
    assert list(emails) == ["7@clinic.example"]
    assert "Receiver faulty failed on event audit:1" in caplog.text


def fail(happened):
    raise RuntimeError("no")


@pytest.mark.django_db
def test_log_names_command_that_delivers_missed_event(caplog):
    register_source("host", lambda: iter([event(1)]))
    register_receiver("counts", fail, catch_up="manage.py counts_rebuild")
    publish(event(1))
    assert (
        "Receiver counts failed on event audit:1 (upload_created) and has missed it; "
        "to deliver it again, run: manage.py counts_rebuild"
    ) in caplog.messages


@pytest.mark.django_db
@pytest.mark.parametrize("catch_up", ["", "manage.py replays_the_sources_of_which_there_is_none"])
def test_log_says_if_missed_event_can_not_be_delivered(caplog, catch_up):
    register_receiver("mails", fail, catch_up=catch_up)
    publish(event(1))
    assert (
        "Receiver mails failed on event audit:1 (upload_created) and has missed it; "
        "it can't be delivered again"
    ) in caplog.messages


@pytest.mark.django_db(transaction=True)
def test_rows_of_receiver_are_rolled_back_with_writer():
    register_receiver("writer", write_user)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        publish(event())
        raise ZeroDivisionError
    assert not get_user_model().objects.exists()


@pytest.mark.django_db
def test_batch_receiver_gets_batches_of_at_most_500_in_order():
    batches, singles = [], []
    register_receiver("batches", fail, resource_types={"upload"}, batch_receiver=batches.append)
    register_receiver("singles", singles.append)
    published = [event(n, "session" if n == 3 else "upload") for n in range(1, 1102)]
    publish_many(iter(published))
    uploads = [happened.id for happened in published if happened.resource_type == "upload"]
    assert [len(batch) for batch in batches] == [499, 500, 101]
    assert [happened.id for batch in batches for happened in batch] == uploads
    assert [happened.id for happened in singles] == [happened.id for happened in published]


@pytest.mark.django_db
def test_single_event_goes_to_the_single_receiver():
    received = []
    register_receiver("both", received.append, batch_receiver=fail)
    publish(event(1))
    publish_many([event(2)])
    publish_many([])
    assert [happened.id for happened in received] == ["audit:1", "audit:2"]


@pytest.mark.django_db
def test_failed_batch_is_undone_and_received_one_by_one(caplog):
    def write_all_and_fail(batch):
        for happened in batch:
            write_user(happened)
        raise RuntimeError("no")

    def write_but_two(happened):
        write_user(happened)
        if happened.id == "audit:2":
            raise RuntimeError("not this one")

    others = []
    register_receiver("faulty", write_but_two, batch_receiver=write_all_and_fail)
    register_receiver("good", fail, batch_receiver=others.extend)
    publish_many([event(number) for number in (1, 2, 3)])
    emails = get_user_model().objects.order_by("email").values_list("email", flat=True)
    assert list(emails) == ["1@clinic.example", "3@clinic.example"]
    assert len(others) == 3
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]
    assert "Receiver faulty failed on a batch of 3 events" in caplog.text
    assert "Receiver faulty failed on event audit:2" in caplog.text


@pytest.mark.django_db
def test_batch_that_breaks_the_transaction_is_received_one_by_one():
    def break_the_transaction(batch):
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM no_such_table")

    received = []
    register_receiver("broken", received.append, batch_receiver=break_the_transaction)
    publish_many([event(1), event(2)])
    assert len(received) == 2
    assert not get_user_model().objects.exists()


@pytest.mark.django_db
def test_serialization_failure_of_a_batch_reaches_the_writer():
    def conflict(batch):
        raise SerializationFailure("again")

    received = []
    register_receiver("unlucky", received.append, batch_receiver=conflict)
    with pytest.raises(SerializationFailure):
        publish_many([event(1), event(2)])
    assert received == []


def test_sources_replay_one_after_the_other():
    register_source("audit", lambda: iter([event(1), event(2)]))
    register_source("host", lambda: iter([event(3)]))
    assert [found.id for found in replay_events()] == ["audit:1", "audit:2", "audit:3"]
    assert [found.id for found in replay_events(["host"])] == ["audit:3"]


@pytest.mark.django_db
def test_receiver_gets_time_in_whole_milliseconds():
    times = []
    register_receiver("all", lambda happened: times.append(happened.occurred_at))
    moment = utc_now().replace(microsecond=123_456)
    publish(replace(event(), occurred_at=moment))
    publish_many([replace(event(), occurred_at=moment)])
    assert times == [moment.replace(microsecond=123_000)] * 2
