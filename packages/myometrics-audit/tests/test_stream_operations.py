"""Operation of streams: command, admin, checks, doctor, metrics, concurrent senders."""

from __future__ import annotations

import importlib
import json
import re
import sys
from dataclasses import fields
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
import time_machine
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.utils import timezone
from stream_receivers import Answer, configure_streams, http_receiver

from myometrics_audit import audit
from myometrics_audit.checkpoints.publication import checkpoint_publish
from myometrics_audit.checks import check_streams_app
from myometrics_audit.log.models import AuditLog, Leaf
from myometrics_audit.sealing import seal_pending
from myometrics_audit.streams.checks import (
    check_encryption,
    check_secret_files,
    check_storages,
    check_streams,
)
from myometrics_audit.streams.delivery import MAX_REFUSED_IN_ROW, StreamFailed, stream_send
from myometrics_audit.streams.doctor import examine_streams
from myometrics_audit.streams.gauges import (
    stream_failing_seconds,
    stream_lag_seconds,
    stream_pending,
    stream_refused,
)
from myometrics_audit.streams.jobs import MAX_SECONDS
from myometrics_audit.streams.models import DeadLetter, Stream
from myometrics_audit.streams.options import MAX_TIMEOUT_SECONDS, StreamOptions, stream_options
from myometrics_audit.streams.services import stream_job_name, stream_pause, stream_row
from myometrics_core.events import is_reserved_action
from myometrics_core.jobs import Job, run_job

DOCUMENTATION = (Path(__file__).parents[3] / "docs/audit/streams.md").read_text()
PAGE = "/admin/myometrics_audit_streams/stream/"


@pytest.fixture
def receiver():
    with http_receiver() as receiver:
        yield receiver


@pytest.fixture
def siem(settings, receiver, db):
    """The stream "siem", which sends to the receiver."""
    values = {"url": receiver.url + "/path-secret", "format": "json", "token": "token-secret"}
    configure_streams(settings, siem=values)
    return stream_row("siem")


def run(*arguments):
    output = StringIO()
    call_command("audit_stream", *arguments, stdout=output)
    return output.getvalue()


# Command


def test_command_lists_state_and_lag(siem, seal, receiver):
    seal(3)
    assert f"siem to {receiver.url}: running, 0 sent, 3 pending" in run("list")
    facts = json.loads(run("list", "--json"))
    assert (facts["stream"], facts["state"], facts["pending"]) == ("siem", "running", 3)
    assert "secret" not in run("list", "--json")


def test_command_sends_everything_now(siem, seal, receiver):
    ids = seal(3)
    assert run("send", "siem") == "Messages sent: 3.\n"
    assert receiver.ids == ids
    assert run("send", "siem") == "Messages sent: 0.\n"


def test_command_says_why_it_cannot_send(siem, seal, receiver):
    seal()
    receiver.decide = lambda documents: Answer(401)
    with pytest.raises(CommandError, match=r"HTTP 401 .the token is not accepted") as failure:
        run("send", "siem")
    assert "secret" not in str(failure.value)
    Job.objects.filter(kind=stream_job_name("siem")).update(
        claimed_until=timezone.now() + timedelta(minutes=1)
    )
    with pytest.raises(CommandError, match="Another process is sending"):
        run("send", "siem")


def test_command_says_that_everything_is_refused(siem, seal, receiver):
    seal(MAX_REFUSED_IN_ROW)
    receiver.decide = lambda documents: Answer(400)
    with pytest.raises(CommandError, match="refuses all entries: HTTP 400"):
        run("send", "siem")


def test_command_pauses_and_resumes(siem, seal, receiver):
    ids = seal(2)
    run("pause", "siem")
    with pytest.raises(CommandError, match="resume siem"):
        run("send", "siem")
    run("resume", "siem")
    run("send", "siem")
    assert receiver.ids[:2] == ids
    assert AuditLog.objects.filter(action="stream_paused", user=None).count() == 1


@pytest.mark.parametrize("action", ["stream_paused", "stream_resumed", "stream_replayed"])
def test_clients_can_t_post_entries_of_streams(action):
    assert is_reserved_action(action)


def test_command_replays_from_start_seal_and_checkpoint(siem, seal, receiver):
    first, second = seal(2), seal(1)
    checkpoint = checkpoint_publish()
    third = seal(2)
    run("send", "siem")
    starts = {
        ("--from-start",): first + second + third,
        ("--from-seal", "2"): second + third,
        ("--from-checkpoint", str(checkpoint.size)): third,
    }
    for arguments, expected in starts.items():
        receiver.accepted.clear()
        run("replay", "siem", *arguments)
        run("send", "siem")
        assert [one for one in receiver.ids if one in first + second + third] == expected


@pytest.mark.parametrize(
    "arguments",
    [
        ("pause", "unknown"),
        ("replay", "siem", "--from-checkpoint", "77"),
        ("replay", "siem", "--from-checkpoint", str(2**70)),
        ("replay", "siem", "--from-seal", "-1"),
        ("replay", "siem", "--from-seal", "0"),
        ("replay", "siem", "--from-seal", "99"),
        ("replay", "siem", "--from-seal", str(2**70)),
    ],
)
def test_command_refuses_wrong_arguments(siem, arguments):
    with pytest.raises(CommandError) as failure:
        run(*arguments)
    assert failure.value.returncode == 2


def test_command_retries_refused_entries(siem, seal, receiver):
    ids = seal(3)
    receiver.decide = lambda documents: Answer(
        400 if ids[1] in [document["id"] for document in documents] else 200
    )
    assert "has refused: 1" in run("send", "siem")
    with pytest.raises(SystemExit):
        run("retry", "siem")
    receiver.decide = lambda documents: Answer()
    assert run("retry", "siem") == "Messages sent: 1. Refused again: 0.\n"
    assert sorted(receiver.ids) == ids


# Admin


@pytest.fixture
def browser(client, django_user_model):
    client.force_login(django_user_model.objects.create_superuser(email="root@clinic.example"))
    return client


def post(browser, action, **fields):
    values = {"action": action, "_selected_action": ["siem"], **fields}
    return browser.post(PAGE, values, follow=True)


def test_admin_pauses_resumes_and_replays(siem, seal, receiver, browser):
    first, second = seal(2), seal(1)
    stream_send("siem")
    assert "1 stream changed" in post(browser, "pause").content.decode()
    assert stream_row("siem").state == Stream.State.PAUSED
    post(browser, "resume")
    assert stream_row("siem").state == Stream.State.RUNNING
    form = post(browser, "replay").content.decode()
    assert "Send again" in form
    assert 'value="siem"' in form
    assert "greater than or equal to 1" in post(browser, "replay", seal_number="0").content.decode()
    for number in (stream_row("siem").seal_number + 1, 2**70):
        page = post(browser, "replay", seal_number=str(number)).content.decode()
        assert "The stream siem has only reached seal" in page
    assert stream_row("siem").seal_number > 1
    post(browser, "replay", seal_number="1")
    receiver.accepted.clear()
    stream_send("siem")
    assert receiver.ids[:3] == first + second
    actors = AuditLog.objects.filter(resource_type="audit_stream").values_list("user", flat=True)
    assert None not in actors
    assert len(actors) == 3


def test_admin_pages_are_read_only(siem, browser, client, django_user_model):
    DeadLetter.objects.create(stream=siem, entry_id=7, error="HTTP 400", refused_at=timezone.now())
    assert browser.get(PAGE).status_code == 200
    assert browser.get(f"{PAGE}siem/change/").status_code == 200
    assert browser.post(f"{PAGE}siem/change/", {"state": "paused"}).status_code == 403
    assert browser.post(f"{PAGE}siem/delete/", {"post": "yes"}).status_code == 403
    letters = "/admin/myometrics_audit_streams/deadletter/"
    assert "HTTP 400" in browser.get(letters).content.decode()
    viewer = django_user_model.objects.create_user(email="v@clinic.example", is_staff=True)
    client.force_login(viewer)
    assert client.post(PAGE, {"action": "pause", "_selected_action": ["siem"]}).status_code == 403
    assert stream_row("siem").state == Stream.State.RUNNING


def test_each_stream_has_a_celery_task(siem, receiver, seal, monkeypatch):
    pytest.importorskip("celery", reason="Celery is optional")
    name = "myometrics_audit.streams.tasks"
    monkeypatch.delitem(sys.modules, name, raising=False)  # imported without streams
    tasks = importlib.import_module(name)
    assert tasks.stream_tasks["siem"].name == "myometrics_audit.stream.siem"
    soft_limit = tasks.stream_tasks["siem"].soft_time_limit
    assert soft_limit >= soft_limit / 2 + MAX_SECONDS + 2 * MAX_TIMEOUT_SECONDS
    seal(2)
    assert tasks.stream_tasks["siem"].apply().get() == 1
    assert len(receiver.accepted) == 2


# Metrics and the doctor


def test_gauges_follow_the_stream(siem, seal, receiver):
    ids = seal(3)
    with time_machine.travel(timezone.now() + timedelta(hours=2)):
        assert 7100 < stream_lag_seconds()["siem"] < 7300
    assert stream_pending() == {"siem": 3.0}
    receiver.decide = lambda documents: Answer(500)
    with pytest.raises(StreamFailed):
        stream_send("siem")
    with time_machine.travel(timezone.now() + timedelta(hours=2)):
        assert 7100 < stream_failing_seconds()["siem"] < 7300
    receiver.decide = lambda documents: Answer(
        400 if ids[0] in [document["id"] for document in documents] else 200
    )
    stream_send("siem")
    assert stream_refused() == {"siem": 1.0}
    assert stream_lag_seconds() == stream_pending() == stream_failing_seconds() == {"siem": 0.0}


def test_doctor_reports_each_state(siem, seal, receiver, user):
    def found():
        (diagnosis,) = examine_streams()
        assert diagnosis.state == "ok" or diagnosis.advice
        assert "secret" not in diagnosis.summary
        return diagnosis.state

    assert found() == "ok"
    ids = seal()
    with time_machine.travel(timezone.now() + timedelta(hours=2)):
        assert found() == "warning"
    receiver.decide = lambda documents: Answer(500)
    with pytest.raises(StreamFailed):
        stream_send("siem")
    assert found() == "warning"
    with time_machine.travel(timezone.now() + timedelta(hours=2)):
        assert found() == "problem"
    receiver.decide = lambda documents: Answer(
        400 if ids[0] in [document["id"] for document in documents] else 200
    )
    stream_send("siem")
    assert found() == "warning"
    stream_pause("siem", actor=user)
    assert found() == "warning"
    Stream.objects.update(state=Stream.State.DEAD)
    assert found() == "problem"


# Settings


VALID = {"url": "https://siem.example/x", "format": "json"}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("no dictionary", "must be a dictionary"),
        ({}, "needs format and url"),
        ({**VALID, "tokne": "x"}, "unknown key 'tokne'"),
        ({**VALID, "url": "ftp://siem.example"}, "needs a url that begins with"),
        ({**VALID, "url": "https://"}, "no host"),
        ({**VALID, "url": "https://siem.example/ä"}, "not ASCII"),
        ({**VALID, "url": "https://siem.example/a b"}, "not ASCII"),
        ({**VALID, "url": "https://siem.example:99999/"}, "invalid port"),
        ({**VALID, "url": "https://user:pw@siem.example/"}, "has a user in its url"),
        ({**VALID, "format": "cef"}, "needs one of the formats json"),
        ({**VALID, "format": "xml"}, "needs one of the formats"),
        ({**VALID, "batch_size": 0}, "a number from 1"),
        ({**VALID, "batch_size": True}, "a number from 1"),
        ({**VALID, "gzip": "yes"}, "True or False"),
        ({**VALID, "actions": "login"}, "a list of texts"),
        ({**VALID, "token": "a", "token_file": "/b"}, "both token and token_file"),
        ({**VALID, "token": "a\r\nHost: b"}, "control characters"),
        ({**VALID, "cert_file": "/a"}, "cert_file and key_file together"),
        ({**VALID, "body": "xml"}, "needs one of ndjson"),
        ({**VALID, "resend_seconds": 3}, "only for syslog"),
        ({**VALID, "timeout_seconds": 11}, "at most 10 for 'timeout_seconds'"),
        ({"url": "syslog+tcp://h", "format": "cef", "ca_file": "/a"}, "only for https"),
        ({"url": "unix:relative", "format": "cef"}, None),
        ({"url": "unix://host/log", "format": "cef"}, "unix:///dev/log"),
        ({"url": "storage:///folder", "format": "proofs"}, "no host"),
    ],
)
def test_check_reports_invalid_options(settings, options, problem):
    configure_streams(settings, siem=options)
    found = list(check_streams())
    if problem is None:
        assert found == []
        return
    (message,) = found
    assert message.id == "myometrics_audit.E070"
    assert problem in message.msg
    assert "pw" not in message.msg


def test_check_reports_names_and_missing_files(settings):
    configure_streams(settings, Über=VALID, siem={**VALID, "token_file": "/missing"})
    names, files = check_streams()
    assert "name" in names.msg
    assert "/missing" in files.msg
    settings.MYOMETRICS_AUDIT = {"STREAMS": []}
    assert list(check_streams()) == []  # E003 reports it.


def test_checks_of_storage_secret_files_and_encryption(settings, tmp_path):
    token = tmp_path / "token"
    token.write_text("x")
    token.chmod(0o644)
    configure_streams(
        settings,
        a={"url": "storage://missing", "format": "proofs"},
        b={**VALID, "token_file": str(token)},
        c={"url": "syslog+tcp://siem.example", "format": "cef"},
        d={"url": "http://127.0.0.1:9", "format": "json"},
    )
    assert [message.id for message in check_storages()] == ["myometrics_audit.E071"]
    assert [message.id for message in check_secret_files()] == ["myometrics_audit.W072"]
    assert ["'c'" in message.msg for message in check_encryption()] == [True]
    token.chmod(0o600)
    assert list(check_secret_files()) == []


def test_check_of_secret_files_leaves_unreadable_paths_to_another(settings):
    configure_streams(settings, siem={**VALID, "token_file": "/" + 300 * "x"})
    assert list(check_secret_files()) == []
    assert [message.id for message in check_streams()] == ["myometrics_audit.E070"]


def test_check_reports_that_the_app_is_missing(settings):
    configure_streams(settings, siem=VALID)
    assert list(check_streams_app()) == []
    settings.INSTALLED_APPS = [
        name for name in settings.INSTALLED_APPS if name != "myometrics_audit.streams"
    ]
    assert [message.id for message in check_streams_app()] == ["myometrics_audit.W074"]


def test_invalid_options_fail_and_do_not_raise_elsewhere(settings, siem, seal):
    seal()
    configure_streams(settings, siem={"url": "https://siem.example/", "format": "cef"})
    with pytest.raises(StreamFailed, match="formats"):
        stream_send("siem")
    with pytest.raises(CommandError, match="formats"):
        run("send", "siem")
    assert "its options are invalid" in run("list")
    assert [diagnosis.state for diagnosis in examine_streams()] == ["warning"]
    with pytest.raises(ImproperlyConfigured):
        stream_options("unknown")


def test_examples_of_the_documentation_are_valid(settings):
    examples = [
        namespace["MYOMETRICS_AUDIT"]["STREAMS"]
        for text in re.findall(r"```python\n(# settings.py\nMYO.*?)```", DOCUMENTATION, re.DOTALL)
        for namespace in [{}]
        if exec(text, namespace) is None
    ]
    names = [name for streams in examples for name in streams]
    assert names == ["repository", "splunk", "collector"]
    configure_streams(settings, **{name: one for every in examples for name, one in every.items()})
    for name in names:
        assert stream_options(name).name == name
    defaults = {field.name for field in fields(StreamOptions)} - {"name", "url", "format"}
    assert {name for name in defaults if f"`{name}`" not in DOCUMENTATION} == set()


def test_options_do_not_show_secrets(settings):
    configure_streams(settings, siem={**VALID, "token": "secret", "url": "https://h/secret?x=y"})
    options = stream_options("siem")
    assert "secret" not in repr(options)
    assert "secret" not in options.place


# Concurrency


@pytest.mark.django_db(transaction=True)
def test_concurrent_jobs_send_each_entry_once(settings, receiver, write, run_concurrently):
    configure_streams(settings, siem={"url": receiver.url, "format": "json", "batch_size": 5})
    stream_row("siem")
    ids = [write().pk for _ in range(40)]
    list(seal_pending())
    results = run_concurrently(lambda: run_job(stream_job_name("siem")), times=8)
    assert not [result for result in results if isinstance(result, Exception)]
    while run_job(stream_job_name("siem"), now=True) and len(receiver.accepted) < 40:
        pass
    assert receiver.ids == ids


@pytest.mark.django_db(transaction=True)
def test_sender_that_was_replaced_stops(settings, receiver, write, run_concurrently):
    configure_streams(settings, siem={"url": receiver.url, "format": "json", "batch_size": 1})
    stream_row("siem")
    ids = [write().pk for _ in range(20)]
    list(seal_pending())
    results = run_concurrently(lambda: stream_send("siem"), times=4)
    assert not [result for result in results if isinstance(result, Exception)]
    stream_send("siem")
    assert list(dict.fromkeys(receiver.ids)) == ids


@pytest.mark.django_db(transaction=True)
def test_writers_do_not_wait_for_a_hanging_receiver(settings, receiver, user, run_concurrently):
    configure_streams(settings, siem={"url": receiver.url, "format": "json"})
    stream_row("siem")
    audit.record(actor=user, action="created", resource=("thing", "0"))
    list(seal_pending())
    written = []

    def hang(documents):
        receiver.released.wait()
        return Answer()

    def write_then_release():
        for number in range(5):
            audit.record(actor=user, action="created", resource=("thing", str(number)))
            list(seal_pending())
            written.append(number)
        receiver.released.set()

    receiver.decide = hang
    run_concurrently([lambda: stream_send("siem"), write_then_release])
    assert len(written) == 5
    stream_send("siem")
    assert len(set(receiver.ids)) == Leaf.objects.filter(seal_number__gt=0).count()
