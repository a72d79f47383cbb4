"""Pulling from the image service: valid rows, invalid rows, failures."""

from __future__ import annotations

import gc
import json
import logging
import resource
import threading
import uuid
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import time_machine
from django.core.management import CommandError, call_command
from fake_image_service import row, running_image_service

from myometrics_analytics.models import PullState, Upload
from myometrics_analytics.pull import ImageService, Listing, SourceUnavailable, Validators
from myometrics_analytics.pull.image_service import convert_row
from myometrics_analytics.pull.pulling import PULL_JOB, pull_status, uploads_pull
from myometrics_analytics.rollups.rebuilding import facts_clear
from myometrics_core.jobs import Job, claims, run_job, run_jobs
from myometrics_core.jobs.kinds import job_kind
from myometrics_core.jobs.running import ensure_recurring_jobs
from myometrics_core.times import utc_now
from myometrics_testing.waiting import PATIENCE

pytestmark = pytest.mark.django_db


@pytest.fixture
def service(settings):
    with running_image_service() as server:
        settings.MYOMETRICS = {**settings.MYOMETRICS, "MICROSERVICE_URL": server.url}
        settings.MYOMETRICS_ANALYTICS = {"PULL_TIMEOUT": PATIENCE, "PULL_DEADLINE": 3600}
        yield server


def test_pull_creates_upload_from_row(service, user):
    service.lists(row(user.pk, "u1"))
    report = uploads_pull()
    assert (report.rows, report.created, report.bad_rows) == (1, 1, 0)
    upload = Upload.objects.get()
    assert (upload.user_id, upload.upload_id, upload.filename) == (user.pk, "u1", "scan.jpg")
    assert (upload.status, upload.diagnosis, upload.confidence) == ("completed", "Normal", 0.97)
    assert upload.uploaded_at == datetime(2026, 1, 5, 10, tzinfo=timezone.utc)
    assert service.requests[0]["path"] == "/uploads"


@pytest.mark.parametrize(
    ("reported", "status"),
    [
        ("processed", "completed"),
        ("completed", "completed"),
        ("queued", "processing"),
        ("processing", "processing"),
        ("failed", "failed"),
    ],
)
def test_pull_maps_each_status(service, user, reported, status):
    service.lists(row(user.pk, status=reported, diagnosis=None, confidence_score=None))
    uploads_pull()
    assert Upload.objects.get().status == status


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2026-01-05T10:00:00", 10),
        ("2026-01-05T10:00:00.123456", 10),
        ("2026-01-05 10:00:00", 10),
        ("2026-01-05T10:00:00Z", 10),
        ("2026-01-05T12:00:00+02:00", 10),
    ],
)
def test_naive_times_are_utc_and_aware_times_are_converted(service, user, text, hour):
    service.lists(row(user.pk, upload_time=text))
    uploads_pull()
    assert Upload.objects.get().uploaded_at.astimezone(timezone.utc).hour == hour


NOW = datetime(2026, 1, 6, tzinfo=timezone.utc)
MODIFIED = "Mon, 05 Jan 2026 10:00:00 GMT"

BAD_ROWS = [
    None,
    7,
    "text",
    [],
    {},
    {"upload_id": "u"},
    row(1, upload_time=None),
    row(1, upload_time="yesterday"),
    row(1, upload_time=1700000000),
    row(1, upload_time="0001-01-01T00:00:00+14:00"),
    # Not in the calendar of every time zone: the admin's list could not show them.
    row(1, upload_time="0001-01-01T00:00:00"),
    row(1, upload_time="9999-12-31T23:59:59.999999"),
    row(1, status="lost"),
    row(1, status=None),
    row(1, upload_id=""),
    row(1, upload_id=5),
    row(1, upload_id="x" * 101),
    row(1, upload_id="nul\x00"),
    {**row(1), "user_id": None},
    {**row(1), "user_id": ["7"]},
]


@pytest.mark.parametrize("bad", BAD_ROWS)
def test_pull_logs_invalid_row_and_merges_others(service, user, caplog, bad):
    if isinstance(bad, dict) and bad.get("user_id") == "1":
        bad = {**bad, "user_id": str(user.pk)}
    service.lists(row(user.pk, "u1"), bad, row(user.pk, "u2"))
    with caplog.at_level(logging.WARNING, "myometrics.analytics.pull"):
        report = uploads_pull()
    assert (report.rows, report.created, report.bad_rows) == (3, 2, 1)
    assert "row 2" in caplog.text


@pytest.mark.parametrize("name", [str(uuid.uuid4()), "7", "unknown", "", "9" * 50, "\x00"])
def test_pull_skips_rows_of_unknown_users(service, user, name):
    service.lists({**row(0), "user_id": name}, row(user.pk, "u2"))
    report = uploads_pull()
    assert (report.unknown_users, report.created, report.bad_rows) == (1, 1, 0)


@pytest.mark.parametrize(
    "nonsense",
    [
        {"diagnosis": 5},
        {"diagnosis": "x" * 5000},
        {"confidence_score": "high"},
        {"confidence_score": -3},
        {"original_filename": "lone \ud800 surrogate"},
        {"original_filename": ["a"]},
        {"original_filename": None},
    ],
)
def test_pull_ignores_invalid_detail_and_keeps_row(service, user, nonsense):
    service.lists(row(user.pk, **nonsense))
    assert uploads_pull().created == 1


def test_events_and_rows_merge_into_one_upload(service, user, publish_upload):
    publish_upload(user, "upload_created", "u1", datetime(2026, 1, 5, 9, tzinfo=timezone.utc))
    service.lists(row(user.pk, "u1", diagnosis="Service"), row(user.pk, "u2"))
    uploads_pull()
    upload = Upload.objects.get(upload_id="u1")
    assert (upload.status, upload.diagnosis) == ("completed", "Service")
    assert upload.uploaded_at.hour == 9
    publish_upload(user, "analysis_ready", "u1", diagnosis="Zebra")
    upload.refresh_from_db()
    assert upload.diagnosis == "Zebra"
    uploads_pull()
    upload.refresh_from_db()
    assert upload.diagnosis == "Zebra"
    assert Upload.objects.count() == 2


def test_pull_of_empty_list_succeeds(service):
    service.lists()
    assert uploads_pull().rows == 0
    assert pull_status().last_error == ""


NONSENSE = {
    "HTML": (200, b"<!doctype html><h1>It works!</h1>"),
    "nothing": (200, b""),
    "another object": (200, b'{"status": "error"}'),
    "a null list": (200, b'{"uploads": null}'),
    "a bare list": (200, b"[]"),
    "no UTF-8": (200, b'{"uploads": ["\xff\xfe"]}'),
    "NaN": (200, b'{"uploads": [NaN]}'),
    "500": (500, b'{"detail": "no"}'),
    "404": (404, b""),
    "a truncated list": (200, json.dumps({"uploads": [row(1)]}).encode()[:-20]),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_invalid_response_is_logged_as_failure(service, caplog, name):
    status, body = NONSENSE[name]
    service.responds(status, body)
    with pytest.raises(SourceUnavailable):
        uploads_pull()
    assert "no uploads pulled" in caplog.text
    assert pull_status().failures == 1
    assert "no uploads pulled" in pull_status().last_error
    assert Job.objects.get().claimed_until is None


@pytest.mark.parametrize(
    "url", ["http://bob:s3cret@image.example", "http://image.example/a b?key=s3cret"]
)
def test_unusable_url_is_reported_without_its_password(settings, db, caplog, url):
    settings.MYOMETRICS = {**settings.MYOMETRICS, "MICROSERVICE_URL": url}
    with pytest.raises(SourceUnavailable) as failure:
        uploads_pull()
    for text in (str(failure.value), pull_status().last_error, caplog.text):
        assert "s3cret" not in text
    assert "for its URL" in pull_status().last_error


def test_pull_fails_after_the_timeout(service, settings):
    settings.MYOMETRICS_ANALYTICS = {"PULL_TIMEOUT": 0.3, "PULL_DEADLINE": 3600}
    service.hangs()
    with pytest.raises(SourceUnavailable, match=r"(?i)timed? ?out"):
        uploads_pull()


def test_pull_of_slow_response_fails_at_the_deadline(service, user, settings):
    settings.MYOMETRICS_ANALYTICS = {"PULL_TIMEOUT": PATIENCE, "PULL_DEADLINE": 1}

    def drip(handler):
        handler.send_part(b'{"uploads": [', 10**6)
        while not service.released.wait(0.05):
            handler.wfile.write(b" ")
            handler.wfile.flush()

    service.answer = drip
    with pytest.raises(SourceUnavailable, match="took too long"):
        uploads_pull()


def test_pull_fails_if_connection_is_reset(service):
    service.resets()
    with pytest.raises(SourceUnavailable):
        uploads_pull()


def test_pull_fails_if_connection_is_refused(settings):
    settings.MYOMETRICS_ANALYTICS = {"IMAGE_SERVICE_URL": "http://127.0.0.1:9"}
    with pytest.raises(SourceUnavailable):
        uploads_pull()
    assert pull_status().failures == 1


def test_rows_before_a_truncation_are_kept(service, user):
    whole = json.dumps({"uploads": [row(user.pk, f"u{number}") for number in range(2500)]})
    service.answer = lambda handler: handler.send_part(whole.encode()[:-300], len(whole))
    with pytest.raises(SourceUnavailable, match="after"):
        uploads_pull()
    assert Upload.objects.count() >= 2000
    service.responds(200, whole.encode())
    uploads_pull()
    assert Upload.objects.count() == 2500


def test_next_pull_is_conditional(service, user):
    def answer(handler):
        if handler.headers.get("If-None-Match") == '"v1"':
            handler.send_response(304)
            handler.end_headers()
        else:
            handler.send_list([row(user.pk)], ETag='"v1"', Last_Modified=MODIFIED)

    service.answer = answer
    with time_machine.travel(NOW) as clock:
        ensure_recurring_jobs()
        assert run_jobs(PULL_JOB) == 1
        assert run_jobs(PULL_JOB) == 0, "not due yet"
        clock.shift(timedelta(seconds=61))
        assert run_jobs(PULL_JOB) == 1
        clock.shift(timedelta(days=1))
        assert run_jobs(PULL_JOB) == 1, "once a day the request is unconditional"
    since = [request.get("If-Modified-Since") for request in service.requests]
    assert since == [None, MODIFIED, None]
    state = PullState.objects.get()
    assert (state.rows, state.completed_at, state.succeeded_at) == (1, *[state.succeeded_at] * 2)
    assert not uploads_pull().is_unchanged


def test_truncated_response_stores_no_validators(service, user):
    def answer(handler):
        handler.send_body(200, b'{"uploads": [', "application/json", ETag='"half"')

    service.answer = answer
    with pytest.raises(SourceUnavailable):
        uploads_pull()
    assert PullState.objects.get().etag == ""


def test_failures_back_off_and_success_resets(service):
    service.responds(500, b"")
    with time_machine.travel(NOW, tick=False) as clock:
        ensure_recurring_jobs()
        for failures, delay in enumerate([15, 30, 60, 120, 240, 480, 900, 900, 900], start=1):
            assert run_jobs(PULL_JOB) == 1
            assert run_jobs(PULL_JOB) == 0, "not due yet"
            assert len(service.requests) == failures
            status = pull_status()
            assert delay / 2 <= (status.due_at - utc_now()).total_seconds() <= delay
            assert (status.failures, "status 500" in status.last_error) == (failures, True)
            clock.move_to(status.due_at)
        service.lists()
        assert run_jobs(PULL_JOB) == 1
        assert pull_status() == (utc_now() + timedelta(seconds=60), 0, "")


def test_backoff_settings_apply(service, settings):
    settings.MYOMETRICS_ANALYTICS = {"PULL_RETRY_DELAY": 2000, "PULL_RETRY_DELAY_MAX": 3000}
    service.responds(500, b"")
    for longest in (2000, 3000):
        with pytest.raises(SourceUnavailable):
            uploads_pull()
        delay = (pull_status().due_at - utc_now()).total_seconds()
        assert longest / 2 - 60 <= delay <= longest


def test_unavailable_service_leaves_no_dead_job(service):
    service.responds(500, b"")
    ensure_recurring_jobs()
    Job.objects.filter(kind=PULL_JOB).update(attempts=10_000)
    assert run_job(PULL_JOB)
    job = Job.objects.get(kind=PULL_JOB)
    assert (job.state, job.run_at > utc_now()) == ("pending", True)


def test_without_image_service_nothing_is_pulled(db):
    assert uploads_pull() is None
    with pytest.raises(CommandError):
        call_command("analytics_pull")


def test_clearing_the_facts_makes_an_unconditional_pull_due(service, user):
    service.lists(row(user.pk))
    uploads_pull()
    facts_clear()
    assert (Upload.objects.count(), run_jobs(PULL_JOB), Upload.objects.count()) == (0, 1, 1)


def test_without_image_service_the_job_is_rescheduled(db):
    ensure_recurring_jobs()
    assert run_jobs(PULL_JOB) == 1
    assert pull_status().failures == 0
    assert not PullState.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_only_one_pull_runs_at_a_time(service, run_concurrently):
    is_requested, is_refused = threading.Event(), threading.Event()

    def answer(handler):
        is_requested.set()
        is_refused.wait(PATIENCE)
        handler.send_list([])

    def pull_second():
        is_requested.wait(PATIENCE)
        with pytest.raises(CommandError, match="another pull"):
            call_command("analytics_pull")
        second = uploads_pull(), run_jobs(PULL_JOB), run_job(PULL_JOB, now=True)
        is_refused.set()
        return second

    service.answer = answer
    first, second = run_concurrently([uploads_pull, pull_second])
    assert first.rows == 0
    assert second == (None, 0, False)
    assert len(service.requests) == 1


def test_pull_of_a_killed_worker_is_taken_over(service, settings):
    settings.MYOMETRICS_ANALYTICS = {"PULL_DEADLINE": 60}
    with time_machine.travel(NOW, tick=False) as clock:
        ensure_recurring_jobs()
        killed = claims.claim_job(Job.objects.get(kind=PULL_JOB).pk, job_kind(PULL_JOB))
        clock.shift(119)
        assert run_jobs(PULL_JOB) == 0
        assert pull_status().failures == 0, "it may still be running"
        clock.shift(2)
        assert pull_status().failures == 1
        assert run_jobs(PULL_JOB) == 1
        assert pull_status().failures == 0
    assert not killed.finish(), "the killed worker no longer holds the claim"


def test_pull_that_lost_its_claim_stores_no_state(service, user, monkeypatch):
    def lose_claim(source, validators):
        Job.objects.filter(kind=PULL_JOB).update(claimed_by=uuid.uuid4())
        return Listing(iter([convert_row(row(user.pk), 1)]), Validators(etag='"v1"'))

    monkeypatch.setattr(ImageService, "fetch", lose_claim)
    uploads_pull()
    state = PullState.objects.get()
    assert (state.succeeded_at, state.etag) == (None, "")
    assert Upload.objects.count() == 1, "merging is idempotent"


def test_pull_command_prints_result(service, user, capsys):
    service.lists(row(user.pk), None)
    call_command("analytics_pull")
    assert "2 rows: 1 new uploads" in capsys.readouterr().out
    service.responds(500, b"")
    with pytest.raises(CommandError, match="500"):
        call_command("analytics_pull")


def resident_bytes():
    """Memory of this process now; where the system doesn't report it, the maximum so far."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextmanager
def memory_growth():
    """Growths of this process's memory against the start, taken 20 times a second."""
    gc.collect()
    start, growths, is_over = resident_bytes(), [0], threading.Event()

    def watch():
        while not is_over.wait(0.05):
            growths.append(resident_bytes() - start)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield growths
    finally:
        is_over.set()
        watcher.join()


def test_pull_of_200_000_rows_needs_constant_memory(service, user):
    rows = 200_000

    def stream(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b'{"uploads": [')
        for start in range(0, rows, 500):
            numbers = range(start, start + 500)
            # Every tenth upload is new; the others repeat, or their user is unknown.
            listed = [row(user.pk if n % 2 else n, f"upload-{n // 20}") for n in numbers]
            text = ", ".join(map(json.dumps, listed))
            handler.wfile.write((text if start == 0 else ", " + text).encode())
        handler.wfile.write(b'], "count": 200000}')

    service.answer = stream
    with memory_growth() as growth:
        report = uploads_pull()
    assert (report.rows, report.created, report.unknown_users) == (rows, 10_000, rows // 2)
    print(f"grew by {max(growth) / 2**20:.1f} MiB over {rows} rows")
    assert max(growth) < 25 * 2**20
