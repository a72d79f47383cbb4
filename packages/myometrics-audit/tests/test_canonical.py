"""Canonical bytes, leaf hashes and signatures never change."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from myometrics_audit.models import AuditLog
from myometrics_audit.sealing import LogVerifier, seal_pending
from myometrics_audit.signing.canonical import canonical_json, canonical_moment
from myometrics_audit.signing.keys import Key
from myometrics_audit.signing.signatures import (
    actor_commitment,
    actor_nonce,
    canonical_entry,
    canonical_entry_v2,
    entry_leaf,
    entry_leaf_v2,
    entry_nonce,
    erasure_leaf,
    is_committed,
    is_tagged,
    seal_signature,
    subject_of,
)
from myometrics_core.http import canonical_address

KEY = Key("golden", b"e" * 32, b"s" * 32, b"r" * 32, b"l" * 32)
MOMENT = datetime(2025, 8, 19, 17, 45, 0, 120, tzinfo=timezone(timedelta(hours=2)))

GOLDEN = [
    (1e22, b"10000000000000000000000"),
    (10**22, b"10000000000000000000000"),
    (1e23, b"100000000000000000000000"),
    (-0.0, b"0"),
    (0.0, b"0"),
    (1.0, b"1"),
    (1, b"1"),
    (0.1, b"0.1"),
    (1e-7, b"1e-07"),
    (5e-324, b"5e-324"),
    (True, b"true"),
    (None, b"null"),
    ("ü\n\u2028", '"ü\\n\u2028"'.encode()),
    ({"b": [1.5, {"z": 0, "a": ""}], "a": {}}, b'{"a":{},"b":[1.5,{"a":"","z":0}]}'),
]


@pytest.mark.parametrize(("value", "expected"), GOLDEN, ids=str)
def test_canonical_json_is_unchanged(value, expected):
    assert canonical_json(value) == expected


@pytest.mark.parametrize("value", [math.nan, math.inf, "\x00", "\ud800", {"\x00": 1}, {1: 2}, {1}])
def test_canonical_json_rejects_unstorable_values(value):
    with pytest.raises((ValueError, TypeError)):
        canonical_json([value])


def golden_entry(**changes):
    values = {
        "nonce": bytes(range(16)),
        "action": "upload_created",
        "resource_type": "upload",
        "resource_id": "upload_001",
        "timestamp": MOMENT,
        "ip_address": "192.168.1.100",
        "user_agent": "Mozilla/5.0",
        "details": {"filename": "Herz.jpg", "file_size": 2048576.0},
        "activity_id": None,
        "origin": "server",
        "data_subject": "patient-7",
        "purpose": "TREAT",
        "legal_basis": None,
    }
    return SimpleNamespace(**{**values, **changes})


def test_canonical_entry_and_leaf_are_unchanged():
    subject = subject_of(1, KEY)
    assert subject == "1d94e3a18ee68b9ee508d891317f61a0"
    assert canonical_entry(golden_entry(), subject) == (
        b'{"action":"upload_created","activity_id":null,'
        b'"details":{"file_size":2048576,"filename":"Herz.jpg"},'
        b'"ip_address":"192.168.1.100","resource_id":"upload_001","resource_type":"upload",'
        b'"subject":"1d94e3a18ee68b9ee508d891317f61a0",'
        b'"timestamp":"2025-08-19T15:45:00.000120Z","user_agent":"Mozilla/5.0"}'
    )
    assert (
        entry_leaf(golden_entry(), subject, KEY).hex()
        == "3f3e4bbdc4997394a6b08fe456d40a331da4946642784859b3135f3d6c9689f0"
    )


def test_digits_of_the_user_id_can_not_be_moved_to_the_nonce():
    nonce = actor_nonce(123, KEY)
    actor = actor_commitment(123, nonce).hex()
    assert actor_commitment(3, nonce + b"12").hex() == actor
    assert is_committed(123, nonce, actor)
    assert not is_committed(3, nonce + b"12", actor)
    assert not is_committed(123, nonce, None)


def test_canonical_entry_and_leaf_of_version_2_are_unchanged():
    nonce = actor_nonce(1, KEY)
    actor = actor_commitment(1, nonce).hex()
    row = canonical_entry_v2(golden_entry(), actor)
    assert row.decode() == (
        '{"action":"upload_created","activity_id":null,'
        f'"actor":"{actor}","data_subject":"patient-7",'
        '"details":{"file_size":2048576,"filename":"Herz.jpg"},'
        '"ip_address":"192.168.1.100","legal_basis":"","origin":"server","purpose":"TREAT",'
        '"resource_id":"upload_001","resource_type":"upload",'
        '"timestamp":"2025-08-19T15:45:00.000Z","user_agent":"Mozilla/5.0","version":2}'
    )
    assert actor == hashlib.sha256(nonce + b"1").hexdigest()
    assert entry_leaf_v2(bytes(32), row) == hashlib.sha256(b"\0" + bytes(32) + row).digest()
    assert (actor, entry_leaf_v2(bytes(32), row).hex()) == (
        "bc730cd06e9a7a56b0a900472a1f73ae79d0388073aa9140fdc78bb71b464058",
        "933fa4f8b8bda55c5a46e60e16dbfe9aac334f095a3365c4a7c69fd4990b19d1",
    )


def test_nonce_of_version_2_is_bound_to_row_and_key():
    row = b"row"
    nonce = entry_nonce(row, KEY)
    assert len(nonce) == 32
    assert nonce != entry_nonce(row, KEY)
    assert is_tagged(nonce, row, KEY)
    assert not is_tagged(nonce, b"another row", KEY)
    assert not is_tagged(bytes([nonce[0] ^ 1]) + nonce[1:], row, KEY)
    assert not is_tagged(nonce[:16], row, KEY)
    assert not is_tagged(nonce, row, dataclasses.replace(KEY, entry=bytes(32)))


def test_leaf_of_erasure_and_signature_of_seal_are_unchanged():
    erasure = SimpleNamespace(
        id="00000000-0000-4000-8000-000000000000",
        nonce=bytes(16),
        reason="user",
        erased_at=MOMENT,
        entries=3,
        digest=bytes(32),
        pseudonym=None,
        details={},
    )
    assert (
        erasure_leaf(erasure, KEY).hex()
        == "f2cb58d1238e0e2793463975f75a4586dbc4fd7de80c6f4f30830c6d05181388"
    )
    seal = SimpleNamespace(
        number=1, root=bytes(32), entries=3, erasures=1, sealed_at=MOMENT, previous=bytes(32)
    )
    assert (
        seal_signature(seal, KEY).hex()
        == "259951cc02d9c1ee885306ed9035175009bbd78c68e5f2a2d463a5a8a2700afb"
    )


def test_times_and_addresses_have_one_canonical_form():
    assert canonical_moment(MOMENT) == "2025-08-19T15:45:00.000120Z"
    assert canonical_address("2001:DB8:0:0::1") == "2001:db8::1"
    assert canonical_address("::ffff:192.0.2.1") == "192.0.2.1"
    assert canonical_address("") is None


TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=30)
NUMBERS = st.integers(-(10**40), 10**40) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.django_db
@settings(max_examples=150)
@given(
    details=st.dictionaries(TEXT, VALUES, max_size=5),
    texts=st.tuples(TEXT, TEXT, TEXT),
    agent=TEXT,
)
def test_verification_accepts_entries_written_by_the_api(client_of, user, details, texts, agent):
    body = dict(zip(("action", "resource_type", "resource_id"), texts, strict=True))
    answer = client_of(user).post(
        "/api/audit-logs/",
        {**body, "details": details},
        format="json",
        HTTP_USER_AGENT=agent.encode("utf-8").decode("latin-1"),
        REMOTE_ADDR="2001:db8:0:0::a",
    )
    assert answer.status_code == (201 if all(text.strip() for text in texts) else 400), (
        answer.content
    )
    if answer.status_code == 201 and answer.json()["id"] % 2:
        list(seal_pending())
    assert [str(problem) for problem in LogVerifier().problems()] == []


@pytest.mark.django_db
def test_numbers_normalised_by_databases_pass_verification():
    for value, _ in GOLDEN:
        AuditLog.objects.create(
            action="a", resource_type="b", resource_id="c", details={"value": value}
        )
    assert list(LogVerifier().problems()) == []
