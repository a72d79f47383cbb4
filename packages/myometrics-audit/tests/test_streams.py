"""Streams send sealed entries in seal order, at least once, and continue after failures."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
import time_machine
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from stream_receivers import Answer, configure_streams, http_receiver

from myometrics_audit.log.models import AuditLog, Leaf
from myometrics_audit.sealing import seal_pending
from myometrics_audit.sealing.erasures import entries_purge_chunk
from myometrics_audit.streams.dead_letters import dead_letters_send
from myometrics_audit.streams.delivery import (
    MAX_REFUSED_IN_ROW,
    SenderReplaced,
    StreamFailed,
    StreamRun,
    no_progress,
    stream_send,
)
from myometrics_audit.streams.gauges import stream_failing_seconds
from myometrics_audit.streams.models import DeadLetter, Stream
from myometrics_audit.streams.options import stream_options
from myometrics_audit.streams.pending import Position, pending_count, read_pending
from myometrics_audit.streams.positions import add_mark, drop_old_marks
from myometrics_audit.streams.services import (
    SealNotReached,
    stream_job_name,
    stream_pause,
    stream_replay,
    stream_resume,
    stream_row,
)
from myometrics_audit.streams.transports.https import MAX_ANSWER_BYTES
from myometrics_core.jobs import Job, run_job
from myometrics_core.jobs.models import Job as JobRow

pytestmark = pytest.mark.django_db


@pytest.fixture
def receiver():
    with http_receiver() as receiver:
        yield receiver


@pytest.fixture
def configure(settings, receiver):
    """A function that configures the stream "siem", which sends to the receiver."""

    def make(**options):
        values = {"url": receiver.url + "/events", "format": "json", **options}
        configure_streams(settings, siem=values)
        return stream_row("siem")

    return make


def test_new_stream_begins_with_the_next_seal(configure, receiver, seal):
    seal(2)
    configure()
    later = seal(3)
    assert stream_send("siem") is False
    assert receiver.ids == later
    stream_send("siem")
    assert receiver.ids == later


def test_unsealed_entries_are_not_sent(configure, receiver, seal, write):
    configure()
    write()
    stream_send("siem")
    assert receiver.requests == []


def test_entry_that_is_sealed_later_is_sent_later(configure, write):
    configure()
    first, second, third = (write().pk for _ in range(3))
    Leaf.objects.filter(pk=second).update(seal_number=1)
    Leaf.objects.filter(pk__in=[first, third]).update(seal_number=2)
    options = stream_options("siem")
    for limit in (1, 2, 10):
        position, found = Position(0, 0), []
        while pending := read_pending(options, position, limit):
            position = pending[-1].position
            found += [one.entry.pk for one in pending]
        assert found == [second, first, third]


def test_run_continues_after_the_saved_position(configure, receiver, seal):
    configure(batch_size=2)
    ids = seal(5)
    assert stream_send("siem", seconds=0) is True
    assert receiver.ids == ids[:2]
    assert stream_send("siem") is False
    assert receiver.ids == ids
    assert stream_row("siem").sent == 5


def test_statements_do_not_grow_with_entries(configure, seal, django_assert_num_queries):
    configure()
    stream_send("siem")
    with django_assert_num_queries(3):
        stream_send("siem")
    for count in (1, 50):
        seal(count)
        with django_assert_num_queries(9):
            stream_send("siem")


def test_erased_entries_are_left_out(configure, receiver, seal):
    configure()
    ids = seal(4)
    entries_purge_chunk(before=timezone.now() + timedelta(hours=1), limit=2, using="default")
    stream_send("siem")
    assert receiver.ids == ids[2:]
    assert pending_count(Position(stream_row("siem").seal_number, ids[-1])) == 0


def test_filters_select_entries(configure, receiver, seal):
    configure(actions=["login_failed"], resource_types=["user", "session"])
    seal(2)
    (found,) = seal(1, action="login_failed", resource_type="user")
    seal(1, action="login_failed", resource_type="upload")
    stream_send("siem")
    assert receiver.ids == [found]
    assert read_pending(stream_options("siem"), Position(*position()), 10) == []


def position():
    row = stream_row("siem")
    return row.seal_number, row.entry_id


# HTTP


def test_bearer_token_is_read_from_its_file(configure, receiver, seal, tmp_path):
    (tmp_path / "token").write_text("first\n")
    configure(token_file=str(tmp_path / "token"), url=receiver.url + "/a?b=c")
    seal()
    stream_send("siem")
    (tmp_path / "token").write_text("second\n")
    seal()
    stream_send("siem")
    assert [path for path, _, _ in receiver.requests] == ["/a?b=c"] * 2
    tokens = [headers["Authorization"] for _, headers, _ in receiver.requests]
    assert tokens == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize(
    ("body", "content_type", "begins"),
    [
        ("", "application/x-ndjson", b'{"id"'),
        ("array", "application/json", b'[{"id"'),
        ("splunk", "application/json", b'{"time":'),
        ("single", "application/json", b'{"id"'),
    ],
)
def test_bodies(configure, receiver, seal, body, content_type, begins):
    configure(body=body, gzip=body == "array", token="t")
    ids = seal(3)
    stream_send("siem")
    assert receiver.ids == ids
    _, headers, sent = receiver.requests[0]
    assert headers["Content-Type"] == content_type
    assert headers["Authorization"] == ("Splunk t" if body == "splunk" else "Bearer t")
    assert headers.get("Content-Encoding") == ("gzip" if body == "array" else None)
    assert body == "array" or sent.startswith(begins)
    assert len(receiver.requests) == (3 if body == "single" else 1)


def test_batches_are_limited_by_bytes(configure, receiver, seal):
    configure(batch_bytes=1000)
    ids = seal(5, user_agent="x" * 300)
    stream_send("siem")
    assert receiver.ids == ids
    assert len(receiver.requests) == 5


@pytest.mark.parametrize("status", [None, 500, 503, 401, 403, 404, 301, 429])
def test_failure_is_retried_without_loss(configure, receiver, seal, status):
    configure(batch_size=2, token="very-secret")
    ids = seal(5)
    answers = [Answer(), Answer(status)]
    receiver.decide = lambda documents: answers.pop(0) if answers else Answer()
    with pytest.raises(StreamFailed) as failure:
        stream_send("siem")
    row = stream_row("siem")
    assert str(failure.value) == row.last_error
    assert row.failing_since is not None
    assert "very-secret" not in row.last_error
    assert "/events" not in row.last_error
    assert str(status or "closed the connection") in row.last_error
    assert receiver.ids == ids[:2]
    receiver.decide = lambda documents: Answer(status if ids[4] == documents[0]["id"] else 200)
    with time_machine.travel(timezone.now() + timedelta(hours=1)), pytest.raises(StreamFailed):
        stream_send("siem")
    later = stream_row("siem")
    assert later.failing_since > row.failing_since + timedelta(minutes=50)  # It has sent two.
    receiver.decide = lambda documents: Answer()
    stream_send("siem")
    assert receiver.ids == ids
    row = stream_row("siem")
    assert (row.failing_since, row.failures, row.last_error) == (None, 0, "")


def test_slow_receiver_is_a_failure(configure, receiver, seal):
    configure(timeout_seconds=1)
    ids = seal(2)

    def wait(documents):
        receiver.released.wait()
        return Answer(None)

    receiver.decide = wait
    with pytest.raises(StreamFailed, match="timed out"):
        stream_send("siem")
    configure()
    receiver.decide = lambda documents: Answer()
    stream_send("siem")
    assert receiver.ids == ids


def test_answer_that_never_ends_is_a_failure(configure, receiver, seal):
    configure(timeout_seconds=1)
    seal()
    receiver.decide = lambda documents: Answer(endless=True)
    with pytest.raises(StreamFailed, match="timed out"):
        stream_send("siem")


def test_run_saves_each_entry_that_is_sent_singly(configure, receiver, seal):
    configure(body="single")
    ids = seal(3)
    assert stream_send("siem", seconds=0) is True
    assert receiver.ids == ids[:1]
    assert stream_row("siem").entry_id == ids[0]
    stream_send("siem")
    assert receiver.ids == ids


def test_run_that_divides_a_batch_ends_in_time_with_progress(configure, receiver, seal):
    configure()
    ids = seal(9)
    receiver.decide = lambda documents: Answer(400 if len(documents) > 1 else 200)
    for number in range(1, 4):
        assert stream_send("siem", seconds=0) is True
        assert receiver.ids == ids[:number]
        assert len(receiver.requests) == 2 * number
    assert stream_row("siem").entry_id == ids[2]


def test_long_answer_is_not_read_and_nothing_is_sent_twice(configure, receiver, seal):
    configure(batch_size=1)
    ids = seal(3)
    receiver.decide = lambda documents: Answer(200, {}, b"x" * (MAX_ANSWER_BYTES + 10_000))
    stream_send("siem")
    assert receiver.ids == ids


def test_unexpected_error_is_a_failure_of_the_stream(configure, seal):
    configure(url="http://siem..example/")  # The name can't be encoded.
    seal()
    with pytest.raises(UnicodeError) as error:
        stream_send("siem")
    row = stream_row("siem")
    assert row.failing_since is not None
    assert (row.failures, row.last_error) == (
        1,
        f"http://siem..example: {type(error.value).__name__}",  # depends on the version of Python
    )


def test_fixed_stream_without_pending_entries_is_not_failing(configure, receiver):
    configure(format="cef")
    with pytest.raises(StreamFailed, match="formats"):
        stream_send("siem")
    assert stream_row("siem").failing_since is not None
    configure()
    assert stream_send("siem") is False
    row = stream_row("siem")
    assert (row.failing_since, row.last_error) == (None, "")
    stream_pause("siem", actor=None)
    configure(format="cef")
    assert stream_send("siem") is False
    assert stream_row("siem").failing_since is None


def test_retry_after_is_respected(configure, receiver, seal):
    configure()
    seal()
    receiver.decide = lambda documents: Answer(429, {"Retry-After": "120"})
    with pytest.raises(StreamFailed):
        stream_send("siem")
    receiver.decide = lambda documents: Answer()
    stream_send("siem")
    assert receiver.accepted == []
    with time_machine.travel(timezone.now() + timedelta(seconds=121)):
        stream_send("siem")
    assert len(receiver.accepted) == 1


def test_failing_stream_is_due_and_an_alert_after_the_clock_was_set_back(configure, receiver, seal):
    configure()
    seal()
    receiver.decide = lambda documents: Answer(429, {"Retry-After": "120"})
    with time_machine.travel(timezone.now() + timedelta(days=2)), pytest.raises(StreamFailed):
        stream_send("siem")
    with pytest.raises(StreamFailed):
        stream_send("siem")
    with time_machine.travel(timezone.now() + timedelta(hours=2)):
        assert 7100 < stream_failing_seconds()["siem"] < 7300


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("body", ["ndjson", "single"])
def test_refused_entry_is_set_aside_and_the_others_arrive(
    settings, configure, receiver, seal, status, body
):
    configure(body=body)
    ids = seal(9)
    bad = {ids[0], ids[6]}
    receiver.decide = lambda documents: Answer(
        status if bad & {document["id"] for document in documents} else 200
    )
    assert stream_send("siem") is False
    assert receiver.ids == [one for one in ids if one not in bad]
    letters = DeadLetter.objects.order_by("entry_id")
    assert [(letter.entry_id, letter.error) for letter in letters] == [
        (ids[0], f"HTTP {status}"),
        (ids[6], f"HTTP {status}"),
    ]
    assert dead_letters_send("siem") == (0, 2)
    configure_streams(settings, siem={"url": "storage://vault", "format": "proofs"})
    with pytest.raises(ImproperlyConfigured, match="no single messages"):
        dead_letters_send("siem")
    configure(body=body)
    receiver.decide = lambda documents: Answer()
    assert dead_letters_send("siem") == (2, 0)
    assert receiver.ids[-2:] == sorted(bad)
    assert not DeadLetter.objects.exists()


def test_retry_without_refused_entries_needs_no_receiver(settings):
    vault = {"url": "storage://vault", "format": "proofs"}
    siem = {"url": "http://siem..example/", "format": "json"}
    configure_streams(settings, vault=vault, siem=siem)
    assert dead_letters_send("vault") == dead_letters_send("siem") == (0, 0)


def test_stream_stops_when_everything_is_refused(configure, receiver, seal):
    configure(batch_size=7)
    ids = seal(2 * MAX_REFUSED_IN_ROW)
    receiver.decide = lambda documents: Answer(400)
    assert stream_send("siem") is False
    row = stream_row("siem")
    assert (row.state, row.last_error) == (Stream.State.DEAD, "HTTP 400")
    assert row.failing_since is not None  # for the alert
    refused = ids[:MAX_REFUSED_IN_ROW]
    assert list(DeadLetter.objects.values_list("entry_id", flat=True)) == refused
    receiver.decide = lambda documents: Answer()
    stream_send("siem")
    assert receiver.accepted == []
    stream_resume("siem", actor=None)
    stream_send("siem")
    assert receiver.ids == ids[MAX_REFUSED_IN_ROW:]


def bundle(*statuses):
    entries = [{"response": {"status": status}} for status in statuses]
    body = {"resourceType": "Bundle", "type": "batch-response", "entry": entries}
    return Answer(200, {}, json.dumps(body).encode())


def test_fhir_server_answers_for_each_entry(configure, receiver, seal):
    configure(format="fhir")
    ids = seal(4)
    answers = [
        bundle("201 Created", "400 Bad Request", "503", "201 Created"),
        bundle("201", "201"),
    ]
    receiver.decide = lambda documents: answers.pop(0)
    with pytest.raises(StreamFailed, match="FHIR status 503"):
        stream_send("siem")
    stream_send("siem")
    assert [letter.entry_id for letter in DeadLetter.objects.all()] == [ids[1]]
    _, headers, body = receiver.requests[1]
    assert headers["Content-Type"] == "application/fhir+json"
    sent = [entry["resource"]["id"] for entry in json.loads(body)["entry"]]
    assert sent == [f"audit-{pk}" for pk in ids[2:]]


@pytest.mark.parametrize("body", ["ndjson", "single"])
def test_refused_entry_before_a_failure_is_set_aside(configure, receiver, seal, body):
    configure(body=body)
    ids = seal(4)

    def decide(documents):
        found = [document["id"] for document in documents]
        if ids[0] in found:
            return Answer(422)
        return Answer(429 if ids[2] in found else 200)

    receiver.decide = decide
    for _ in range(2):
        with pytest.raises(StreamFailed, match="429"):
            stream_send("siem")
    assert DeadLetter.objects.get().entry_id == ids[0]
    assert receiver.ids == ids[1:2]


def test_batch_stops_at_too_many_refused_entries_before_a_failure(configure, receiver, seal):
    configure(format="fhir")
    seal(MAX_REFUSED_IN_ROW + 1)
    receiver.decide = lambda documents: bundle(*["400"] * MAX_REFUSED_IN_ROW, "503")
    assert stream_send("siem") is False
    row = stream_row("siem")
    assert (row.state, row.last_error) == (Stream.State.DEAD, "FHIR status 400")


# State


def test_paused_stream_sends_nothing_until_it_is_resumed(configure, receiver, seal, user):
    configure()
    ids = seal(2)
    stream_pause("siem", actor=user)
    stream_send("siem")
    assert receiver.accepted == []
    stream_resume("siem", actor=user)
    stream_send("siem")
    assert receiver.ids == ids
    actions = AuditLog.objects.filter(resource_type="audit_stream", resource_id="siem")
    assert list(actions.order_by("id").values_list("action", "user")) == [
        ("stream_paused", user.pk),
        ("stream_resumed", user.pk),
    ]


def test_replay_sends_again_from_a_seal(configure, receiver, seal):
    configure()
    seal(2)
    second, third = seal(2), seal(1)
    stream_send("siem")
    receiver.accepted.clear()
    number = Leaf.objects.get(pk=second[0]).seal_number
    stream_replay("siem", seal_number=number, actor=None)
    stream_send("siem")
    assert receiver.ids == second + third


@pytest.mark.parametrize("above", [1, 2**70])
def test_replay_above_the_stream_is_refused(configure, receiver, seal, above):
    row = configure()
    ids = seal(1) + seal(1)
    with pytest.raises(SealNotReached, match="has only reached seal"):
        stream_replay("siem", seal_number=row.seal_number + above, actor=None)
    assert not AuditLog.objects.filter(action="stream_replayed").exists()
    stream_send("siem")
    assert receiver.ids == ids


def test_replay_before_a_run_begins_is_not_overwritten(configure, receiver, seal):
    configure()
    ids = seal(2)
    stream_send("siem")
    seal(1)
    Stream.objects.update(sender=None)
    row = stream_row("siem")
    stream_replay("siem", seal_number=1, actor=None)
    run = StreamRun(stream_options("siem"), row, ends=float("inf"), progress=no_progress)
    with pytest.raises(SenderReplaced):
        run.send_messages()
    assert position() == (1, 0)
    receiver.accepted.clear()
    stream_send("siem")
    assert receiver.ids[:2] == ids


@pytest.mark.parametrize("change", ["pause", "replay"])
def test_change_during_a_run_ends_it(configure, receiver, seal, change):
    configure(batch_size=1)
    ids = seal(4)

    def decide(documents):
        if documents[0]["id"] == ids[1]:
            row = Stream.objects.filter(pk="siem")
            if change == "pause":
                row.update(state=Stream.State.PAUSED, sender=None)
            else:
                row.update(seal_number=1, entry_id=0, sender=None)
        return Answer()

    # In this thread: the database of a test in a transaction has one connection.
    sent = []

    def progress(count):
        sent.append(count)
        if count == 1:
            decide([{"id": ids[1]}])

    assert stream_send("siem", progress=progress) is False
    assert receiver.ids == ids[:2]
    if change == "replay":
        receiver.accepted.clear()
        stream_send("siem")
        assert receiver.ids[-4:] == ids


def test_seal_enqueues_the_job_and_the_job_sends(configure, receiver, write):
    configure()
    write()
    assert not JobRow.objects.filter(kind=stream_job_name("siem")).exists()
    list(seal_pending())
    assert JobRow.objects.filter(kind=stream_job_name("siem")).exists()
    assert run_job(stream_job_name("siem"))
    assert len(receiver.accepted) == 1


def test_failed_job_waits_with_growing_delays(configure, receiver, seal):
    configure()
    seal()
    receiver.decide = lambda documents: Answer(500)
    delays = []
    for _ in range(4):
        assert run_job(stream_job_name("siem"), now=True)
        job = Job.objects.get(kind=stream_job_name("siem"))
        delays.append((job.run_at - timezone.now()).total_seconds())
        assert "HTTP 500" in job.last_error
    assert delays[3] > delays[0]
    assert delays[3] <= 16


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 5)), min_size=1), st.integers(1, 10))
def test_marks_go_back_at_least_the_window(steps, window):
    now, entry, marks, reached = 0.0, 0, [], [(0.0, 0)]
    marks = add_mark(marks, now, Position(1, 0))
    for pause, sent in steps:
        now, entry = now + pause, entry + sent
        reached.append((now, entry))
        marks = drop_old_marks(add_mark(marks, now, Position(1, entry)), now - window)
    oldest = marks[0][2]
    before = [place for moment, place in reached if moment <= now - window] or [0]
    assert oldest <= before[-1] or oldest == 0
    assert len(marks) <= window + 3
