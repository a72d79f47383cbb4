"""Witnesses cosign one history only, and a time-stamping authority confirms checkpoints."""

from __future__ import annotations

import base64
import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from urllib.request import Request, urlopen

import pytest
from checkpoint_site import KEY, ORIGIN, configure_checkpoints, serve_witness
from hypothesis import given, settings
from hypothesis import strategies as st

from myometrics_audit.checkpoints.checks import check_timestamps
from myometrics_audit.checkpoints.models import Checkpoint
from myometrics_audit.checkpoints.publication import checkpoint_publish
from myometrics_audit.checkpoints.witness_server import Witness
from myometrics_audit.sealing import seal_pending
from myometrics_audit.signing.merkle import MerkleTree, consistency_proof, leaf_node
from myometrics_audit.signing.notes import (
    TreeHead,
    VerifierKey,
    add_signatures,
    generate_key,
    read_signatures,
    split_note,
    verified_by,
)
from myometrics_audit.signing.tiles import TreeEdge, node_reader
from myometrics_testing.evidence import openssl, serve
from myometrics_testing.waiting import PATIENCE

WITNESS_KEY = generate_key("witness.example/w1", is_witness=True)


def leaves(size, history=""):
    return [f"{history}{number}".encode() for number in range(size)]


def note_of(entries, key=KEY, origin=ORIGIN):
    head = TreeHead(origin, len(entries), MerkleTree(entries).root())
    return add_signatures(head.text + "\n", [key.sign(head.text)])


def body_of(old_size, entries, note=None):
    edge = TreeEdge()
    tiles = {tile.path: tile.content for tile in edge.append(map(leaf_node, entries))}
    tiles |= {tile.path: tile.content for tile in edge.partial_tiles()}
    node_at = node_reader(len(entries), tiles.__getitem__)
    proof = consistency_proof(old_size, len(entries), node_at) if old_size else []
    lines = [f"old {old_size}", *(base64.b64encode(node).decode() for node in proof), ""]
    return "\n".join(lines) + "\n" + (note or note_of(entries))


@pytest.fixture
def witness(tmp_path):
    return Witness(WITNESS_KEY, [KEY.verifier], tmp_path)


def test_witness_cosigns_checkpoints_that_continue_each_other(witness):
    for old, new in ((0, 3), (3, 3), (3, 260), (260, 261)):
        answer = witness.add_checkpoint(body_of(old, leaves(new)))
        assert answer.status == 200
        (signature,) = read_signatures(answer.text)
        text = TreeHead(ORIGIN, new, MerkleTree(leaves(new)).root()).text
        assert WITNESS_KEY.verifier.accepts(text, signature)
        assert int.from_bytes(signature.value[:8], "big") > 1_700_000_000


def test_witness_refuses_what_does_not_continue(witness):
    witness.add_checkpoint(body_of(0, leaves(5)))
    fork = leaves(5, "other")
    refused = {
        "another root of the same size": (body_of(5, fork), 409),
        "another history": (body_of(5, leaves(9, "other")), 422),
        "an old size it does not know": (body_of(4, leaves(9)), 409),
        "a smaller tree": (body_of(3, leaves(4)), 409),
        "a proof from nothing": (body_of(0, leaves(9)), 409),
        "an old size above the new one": (body_of(3, leaves(3)).replace("old 3", "old 5"), 400),
        "an unknown log": (body_of(5, leaves(9), note_of(leaves(9), KEY, "x.example")), 404),
        "another key": (body_of(5, leaves(9), note_of(leaves(9), generate_key(ORIGIN))), 403),
        "a wrong signature": (
            body_of(5, leaves(9)).replace(f"\n{ORIGIN}\n9", f"\n{ORIGIN}\n8"),
            403,
        ),
        "no request": ("", 400),
    }
    for what, (body, status) in refused.items():
        answer = witness.add_checkpoint(body)
        assert answer.status == status, what
        assert "\u2014" not in answer.text
    answer = witness.add_checkpoint(body_of(0, leaves(9)))
    assert (answer.text, answer.content_type) == ("5\n", "text/x.tlog.size")
    assert witness.add_checkpoint(body_of(5, leaves(9))).status == 200


def test_witness_remembers_after_a_restart(witness, tmp_path):
    assert witness.add_checkpoint(body_of(0, leaves(5))).status == 200
    again = Witness(WITNESS_KEY, [KEY.verifier], tmp_path)
    assert again.add_checkpoint(body_of(0, leaves(5, "other"))).status == 409
    assert again.add_checkpoint(body_of(5, leaves(6))).status == 200


def test_witness_with_a_full_disk_signs_nothing_and_leaves_no_file(witness, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            witness.add_checkpoint(body_of(0, leaves(3)))
    assert list(tmp_path.iterdir()) == []
    assert witness.add_checkpoint(body_of(0, leaves(3))).status == 200


def test_witness_signs_one_of_two_concurrent_forks(witness, run_concurrently):
    bodies = [body_of(0, leaves(size, f"fork{size}")) for size in range(1, 9)]
    answers = run_concurrently([lambda body=body: witness.add_checkpoint(body) for body in bodies])
    assert sorted(answer.status for answer in answers) == [200] + [409] * 7


@settings(max_examples=200)
@given(st.data())
def test_any_body_gets_an_answer(tmp_path_factory, draw):
    witness = Witness(WITNESS_KEY, [KEY.verifier], tmp_path_factory.mktemp("witness"))
    body = body_of(0, leaves(3))
    place = draw.draw(st.integers(0, len(body)))
    added = draw.draw(st.text(max_size=4))
    altered = body[:place] + added + body[place + draw.draw(st.integers(0, 4)) :]
    assert witness.add_checkpoint(altered).status in {200, 400, 403, 404, 409, 422}


# The site as a client


@pytest.fixture
def seal(write):
    def make():
        write()
        list(seal_pending())

    return make


@pytest.mark.django_db
def test_published_checkpoint_has_the_cosignatures_of_witnesses(settings, tmp_path, seal):
    with (
        serve_witness(tmp_path / "w1") as (first, first_url),
        serve_witness(tmp_path / "w2", name="second.example/w") as (second, second_url),
    ):
        witnesses = {str(first): first_url, str(second): second_url}
        configure_checkpoints(settings, tmp_path / "tiles", WITNESSES=witnesses)
        for _ in range(3):
            seal()
            checkpoint = checkpoint_publish()
            assert checkpoint.has_quorum
            keys = [KEY.verifier, first, second]
            assert verified_by(checkpoint.note, keys) == keys
    assert (tmp_path / "tiles/checkpoint").read_text() == checkpoint.note


@pytest.mark.django_db
def test_checkpoint_without_quorum_is_published_and_marked(settings, tmp_path, seal, caplog):
    with serve_witness(tmp_path / "w1") as (key, url):
        unreachable = generate_key("gone.example/w", is_witness=True).verifier
        witnesses = {str(key): url, str(unreachable): "http://127.0.0.1:1"}
        configure_checkpoints(settings, tmp_path / "tiles", WITNESSES=witnesses)
        seal()
        assert not checkpoint_publish().has_quorum
        assert "Witness gone.example/w has not signed" in caplog.text
        configure_checkpoints(settings, tmp_path / "tiles", WITNESSES=witnesses, WITNESS_QUORUM=1)
        seal()
        checkpoint = checkpoint_publish()
    assert checkpoint.has_quorum
    assert verified_by(checkpoint.note, [key, unreachable]) == [key]


@pytest.mark.django_db
def test_new_witness_and_one_that_missed_checkpoints_catch_up(settings, tmp_path, seal):
    configure_checkpoints(settings, tmp_path / "tiles")
    seal()
    assert not checkpoint_publish().has_quorum
    for _ in range(2):
        with serve_witness(tmp_path / "w1") as (key, url):
            configure_checkpoints(settings, tmp_path / "tiles", WITNESSES={str(key): url})
            seal()
            assert checkpoint_publish().has_quorum
        configure_checkpoints(settings, tmp_path / "tiles")
        seal()
        assert not checkpoint_publish().has_quorum


@pytest.mark.django_db
def test_witness_of_a_longer_history_does_not_sign(settings, tmp_path, seal, caplog):
    with serve_witness(tmp_path / "w1") as (key, url):
        body = body_of(0, leaves(50))
        with urlopen(Request(f"{url}/add-checkpoint", data=body.encode())) as answer:
            assert answer.status == 200
        configure_checkpoints(settings, tmp_path / "tiles", WITNESSES={str(key): url})
        seal()
        assert not checkpoint_publish().has_quorum
    assert "it has signed 50 seals, more than there are" in caplog.text


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, b""),
        (200, b"\xff"),
        (200, "\u2014 witness.example/w1 AAAA\n".encode()),
        (200, b"x" * 100_000),
        (302, b""),
        (409, b"nothing\n"),
        (409, b"0\n"),
        (500, b"error"),
    ],
)
@pytest.mark.django_db
def test_odd_answers_of_a_witness_do_not_stop_publication(settings, tmp_path, seal, status, answer):
    with serve(lambda path, body: (status, answer)) as url:
        witnesses = {str(WITNESS_KEY.verifier): url}
        configure_checkpoints(settings, tmp_path / "tiles", WITNESSES=witnesses)
        seal()
        checkpoint = checkpoint_publish()
    assert checkpoint.published_at is not None
    assert not checkpoint.has_quorum
    assert verified_by(checkpoint.note, [KEY.verifier, WITNESS_KEY.verifier]) == [KEY.verifier]


@pytest.mark.parametrize(
    "change", [{"origin": "other.example/log"}, {"size": 2}, {"root": bytes(32)}]
)
@pytest.mark.django_db
def test_cosignature_of_another_checkpoint_is_not_taken(settings, tmp_path, seal, change):
    def cosign(path, body):
        head = TreeHead.parse(split_note(body.decode().partition("\n\n")[2])[0])
        return 200, WITNESS_KEY.sign(replace(head, **change).text, at=1).line.encode()

    with serve(cosign) as url:
        witnesses = {str(WITNESS_KEY.verifier): url}
        configure_checkpoints(settings, tmp_path / "tiles", WITNESSES=witnesses)
        seal()
        checkpoint = checkpoint_publish()
    assert not checkpoint.has_quorum
    assert verified_by(checkpoint.note, [KEY.verifier, WITNESS_KEY.verifier]) == [KEY.verifier]


@pytest.mark.any_database
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_audit_witness_command_serves_until_it_is_stopped(tmp_path, signal_number):
    key_file = tmp_path / "key"
    key_file.write_text(WITNESS_KEY.text)
    command = [
        *(sys.executable, "-m", "django", "audit_witness", "--key-file", str(key_file)),
        *("--log", str(KEY.verifier), "--folder", str(tmp_path / "state")),
        *("--address", "127.0.0.1:0", "--settings", "audit_test_settings"),
    ]
    folder = os.path.dirname(__file__)
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}"}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        # Jobs in the background of a shell ignore SIGINT, and so would this process.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as process:
        line = process.stdout.readline()
        url = line.split()[-1]
        assert str(WITNESS_KEY.verifier) in line
        body = body_of(0, leaves(2)).encode()
        with urlopen(Request(f"{url}add-checkpoint", data=body)) as answer:
            (signature,) = read_signatures(answer.read().decode())
        process.send_signal(signal_number)
        assert process.wait(timeout=PATIENCE) == 0
    assert signature.name == WITNESS_KEY.name
    (stored,) = (tmp_path / "state").glob("*.json")
    assert json.loads(stored.read_text())["size"] == 2


# Time-stamps


@pytest.mark.program("openssl")
@pytest.mark.django_db
def test_openssl_accepts_the_time_stamp_of_a_checkpoint(settings, tmp_path, seal, authority):
    folder, stamp = authority
    with serve(lambda path, body: (200, stamp(body))) as url:
        configure_checkpoints(settings, tmp_path / "tiles", TIMESTAMP_URL=url)
        seal()
        checkpoint = checkpoint_publish()
    (tmp_path / "stamp").write_bytes(bytes(checkpoint.timestamp))
    published = tmp_path / "tiles/checkpoint"
    verify = ("ts", "-verify", "-in", tmp_path / "stamp", "-CAfile", folder / "ca.pem", "-data")
    openssl(*verify, published)
    (tmp_path / "altered").write_text(published.read_text().replace(ORIGIN, "other"))
    with pytest.raises(subprocess.CalledProcessError):
        openssl(*verify, tmp_path / "altered")


@pytest.mark.program("openssl")
@pytest.mark.django_db
def test_checkpoint_without_its_own_time_stamp_is_published(settings, tmp_path, seal, authority):
    _, stamp = authority
    replies = []

    def stamp_once(path, body):
        replies.append(stamp(body))
        return 200, replies[0]

    seal()
    for respond in (
        lambda path, body: (500, b""),
        lambda path, body: (200, b"nonsense"),
        stamp_once,
    ):
        with serve(respond) as url:
            configure_checkpoints(settings, tmp_path / "tiles", TIMESTAMP_URL=url)
            checkpoint = checkpoint_publish()
            seal()
        assert (checkpoint.timestamp is None) == (not replies)
    # The reply to another request is not taken.
    with serve(stamp_once) as url:
        configure_checkpoints(settings, tmp_path / "tiles", TIMESTAMP_URL=url)
        assert checkpoint_publish().timestamp is None
    assert Checkpoint.objects.filter(published_at=None).count() == 0


@pytest.mark.program("openssl")
@pytest.mark.django_db
def test_time_stamp_of_another_digest_is_not_taken(settings, tmp_path, seal, authority, caplog):
    _, stamp = authority

    def stamp_another(path, body):
        place = body.index(b"\x04\x20") + 2  # an octet string of 32 bytes
        return 200, stamp(body[:place] + bytes(32) + body[place + 32 :])

    with serve(stamp_another) as url:
        configure_checkpoints(settings, tmp_path / "tiles", TIMESTAMP_URL=url)
        seal()
        assert checkpoint_publish().timestamp is None
    assert "the authority stamped something else" in caplog.text


def test_time_stamps_without_their_package_are_reported(settings, monkeypatch):
    settings.MYOMETRICS_AUDIT = {"TIMESTAMP_URL": "https://tsa.example"}
    assert list(check_timestamps()) == []
    monkeypatch.setattr("myometrics_audit.checkpoints.checks.find_spec", lambda name: None)
    assert [message.id for message in check_timestamps()] == ["myometrics_audit.E034"]


def test_key_of_a_witness_is_no_key_of_a_log():
    assert VerifierKey.parse(str(WITNESS_KEY.verifier)).kind != KEY.verifier.kind
