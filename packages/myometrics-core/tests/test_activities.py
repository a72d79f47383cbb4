"""What happened in one package is told to the others; a receiver that fails harms nobody."""

from dataclasses import replace

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction

from myometrics_core import activities
from myometrics_core.activities import (
    Activity,
    publish,
    register_receiver,
    register_source,
    replay_activities,
)
from myometrics_core.times import utc_now


@pytest.fixture(autouse=True)
def _registries(monkeypatch):
    monkeypatch.setattr(activities, "_receivers", {})
    monkeypatch.setattr(activities, "_sources", {})


def activity(number=1, resource_type="upload"):
    return Activity(
        id=f"audit:{number}",
        actor_id=None,
        action="upload_created",
        resource_type=resource_type,
        resource_id="u1",
        occurred_at=utc_now(),
    )


def write_person(happened):
    get_user_model().objects.create_user(email=f"{happened.id[6:]}@clinic.example", password="x")


def test_the_source_is_the_part_before_the_colon():
    assert activity().source == "audit"


@pytest.mark.django_db
def test_each_receiver_hears_what_it_is_interested_in():
    heard = []
    register_receiver("all", lambda happened: heard.append(("all", happened.id)))
    register_receiver(
        "uploads",
        lambda happened: heard.append(("uploads", happened.id)),
        resource_types={"upload"},
    )
    publish(activity(1))
    publish(activity(2, resource_type="session"))
    assert heard == [("all", "audit:1"), ("uploads", "audit:1"), ("all", "audit:2")]


@pytest.mark.django_db
def test_a_receiver_that_fails_is_undone_and_logged_and_the_others_are_not(caplog):
    def write_and_fail(happened):
        write_person(happened)
        raise RuntimeError("no")

    register_receiver("faulty", write_and_fail)
    register_receiver("good", lambda happened: write_person(activity(7)))
    publish(activity())
    emails = get_user_model().objects.values_list("email", flat=True)
    assert list(emails) == ["7@clinic.example"]
    assert "Receiver faulty failed on activity audit:1" in caplog.text


def fail(happened):
    raise RuntimeError("no")


@pytest.mark.django_db
def test_the_log_says_how_to_make_good_what_a_receiver_missed(caplog):
    register_source("host", lambda: iter([activity(1)]))
    register_receiver("counts", fail, catch_up="manage.py counts_rebuild")
    publish(activity(1))
    assert (
        "Receiver counts failed on activity audit:1 (upload_created) and lacks it; "
        "to make this good, run: manage.py counts_rebuild"
    ) in caplog.messages


@pytest.mark.django_db
@pytest.mark.parametrize("catch_up", ["", "manage.py replays_the_sources_of_which_there_is_none"])
def test_the_log_says_so_where_nothing_makes_it_good(caplog, catch_up):
    register_receiver("mails", fail, catch_up=catch_up)
    publish(activity(1))
    assert (
        "Receiver mails failed on activity audit:1 (upload_created) and lacks it; "
        "nothing brings it again"
    ) in caplog.messages


@pytest.mark.django_db(transaction=True)
def test_what_a_receiver_owes_goes_with_its_writer():
    register_receiver("writer", write_person)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        publish(activity())
        raise ZeroDivisionError
    assert not get_user_model().objects.exists()


def test_sources_replay_one_after_the_other():
    register_source("audit", lambda: iter([activity(1), activity(2)]))
    register_source("host", lambda: iter([activity(3)]))
    assert [found.id for found in replay_activities()] == ["audit:1", "audit:2", "audit:3"]
    assert [found.id for found in replay_activities(["host"])] == ["audit:3"]


@pytest.mark.django_db
def test_receivers_get_the_time_in_whole_milliseconds():
    times = []
    register_receiver("all", lambda happened: times.append(happened.occurred_at))
    moment = utc_now().replace(microsecond=123_456)
    publish(replace(activity(), occurred_at=moment))
    assert times == [moment.replace(microsecond=123_000)]
