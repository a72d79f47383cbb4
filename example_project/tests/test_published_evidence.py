"""The published evidence of a running site is verified with its public key alone."""

from __future__ import annotations

import hashlib
import shutil
from contextlib import ExitStack

import pytest
from running_site import PROJECT, RunningSite

from myometrics_audit.signing.notes import TreeHead, VerifierKey, split_note, verified_by
from myometrics_audit.signing.tiles import bundle_path, split_bundle, tile_path
from myometrics_testing.evidence import build_verifier, make_authority, openssl, serve
from myometrics_testing.services import OwnedServer
from myometrics_testing.waiting import wait_for

pytestmark = [
    pytest.mark.long,
    pytest.mark.program("go"),
    pytest.mark.program("openssl"),
]

NAME = "clinic.example/audit-log"
TOKEN = "of-prometheus-alone"
VERIFIER = PROJECT.parent / "docs/audit/verify.go"


@pytest.fixture
def authority(tmp_path):
    """A time-stamping authority: its URL, and the file of its certificate."""
    folder = tmp_path / "authority"
    folder.mkdir()
    stamp = make_authority(folder)
    with serve(lambda path, body: (200, stamp(body))) as url:
        yield url, folder / "ca.pem"


@pytest.fixture
def site(tmp_path, authority):
    """The site on PostgreSQL with worker and beat; it publishes its audit log."""
    folder = tmp_path / "site"
    folder.mkdir()
    with ExitStack() as stack:
        postgresql = stack.enter_context(OwnedServer("postgresql"))
        redis = stack.enter_context(OwnedServer("redis"))
        running = RunningSite(folder, postgresql.url, redis.url)
        stack.callback(running.stop)
        running.environment |= {
            "DJANGO_SETTINGS_MODULE": "frequent_jobs_settings",
            "PYTHONPATH": str(PROJECT / "tests"),
            "METRICS_TOKEN": TOKEN,
        }
        key = tmp_path / "audit.key"
        (tmp_path / "keys").write_text(
            running.manage("audit_key", "--name", NAME, "--output", str(key))
        )
        running.environment |= {
            "AUDIT_CHECKPOINT_KEY_FILE": str(key),
            "AUDIT_TIMESTAMP_URL": authority[0],
        }
        running.start()
        running.make_administrator()
        yield running


def tree_root(hashes):
    """The root of RFC 6962 over hashes of leaves."""
    if len(hashes) == 1:
        return hashes[0]
    half = 1 << (len(hashes) - 1).bit_length() - 1
    sides = tree_root(hashes[:half]) + tree_root(hashes[half:])
    return hashlib.sha256(b"\1" + sides).digest()


def record(site, access, count):
    """Write audit entries over the API."""
    for number in range(count):
        body = {"action": "viewed", "resource_type": "report", "resource_id": str(number)}
        assert site.request(access, "POST", "/audit-logs/", body).status_code == 201


def fetch_head(site, key):
    """The published head of the tree, once its signature is verified."""
    answer = site.get("/audit-log/checkpoint")
    if answer.status_code == 404:
        return None
    assert answer.headers["Cache-Control"] == "no-cache, max-age=0"
    assert verified_by(answer.text, [key]) == [key]
    return TreeHead.parse(split_note(answer.text)[0])


def fetch_larger_head(site, key, size):
    head = fetch_head(site, key)
    return head if head.size > size else None


def fetch_tile(site, path):
    answer = site.get(f"/audit-log/{path}")
    assert answer.status_code == 200, path
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert "Set-Cookie" not in answer.headers
    return answer.content


def test_outsiders_accept_what_a_running_site_publishes(site, authority, tmp_path):
    key = VerifierKey.parse((tmp_path / "keys").read_text())
    access = site.sign_in()
    record(site, access, 3)
    first = wait_for(lambda: fetch_head(site, key), log=lambda: site.log)
    assert first.origin == NAME

    record(site, access, 3)
    site.manage("audit_seal")
    # By the command, unless the worker is publishing at this moment.
    head = wait_for(lambda: fetch_larger_head(site, key, first.size), log=lambda: site.log)
    hashes = fetch_tile(site, tile_path(0, 0, head.size))
    nodes = [hashes[start : start + 32] for start in range(0, len(hashes), 32)]
    seals = split_bundle(fetch_tile(site, bundle_path(0, head.size)))
    assert nodes == [hashlib.sha256(b"\0" + seal).digest() for seal in seals]
    assert (tree_root(nodes[: first.size]), tree_root(nodes)) == (first.root, head.root)
    assert site.get(f"/audit-log/{tile_path(0, 0, 255)}").status_code == 404
    gauges = site.get("/metrics", Authorization=f"Bearer {TOKEN}").text
    assert "\nmyometrics_checkpoint_lag_seconds " in gauges

    export = tmp_path / "export"
    site.manage("audit_export", "--folder", str(export))
    changed = tmp_path / "changed"
    shutil.copytree(export, changed)
    log = changed / "log.jsonl"
    log.write_text(log.read_text().replace("viewed", "edited"))
    done = build_verifier(VERIFIER, tmp_path)(tmp_path / "keys", export, changed)
    accepted, refused = done.stdout.splitlines()
    assert accepted.startswith(f"{export}: accepted: "), done.stdout
    assert "(complete: true, of version 1: 0)" in accepted
    assert refused.startswith(f"{changed}: REFUSED: "), done.stdout
    verify = ("ts", "-verify", "-in", export / "checkpoint.tsr", "-CAfile", authority[1])
    openssl(*verify, "-data", export / "checkpoint")
    assert "Traceback" not in site.log
