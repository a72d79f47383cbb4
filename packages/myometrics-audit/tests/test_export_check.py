"""Every change of an export is detected, with the keys alone."""

from __future__ import annotations

import copy
import json
import sqlite3
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from myometrics_audit.listing import Selection, entries_select
from myometrics_audit.partitions.archives import ArchiveFailed, written_archive
from myometrics_audit.sealing import export_problems, proof_lines, seal_pending
from myometrics_audit.signing.keys import active_key
from myometrics_audit.signing.signatures import seal_signature

pytestmark = pytest.mark.django_db

MOMENT = datetime(2025, 8, 19, 15, 45, tzinfo=timezone.utc)
Lines = list[dict[str, Any]]
FREE = {
    ("header", "exported_at"),
    ("unsealed entry", "entry", "id"),
}
"""Values that are not proved; docs/audit/reference.md lists them."""


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def entry_version(request):
    """Every test runs with entries of both versions."""
    return request.param


@pytest.fixture
def lines(write, django_user_model, settings, rf):
    """An export with every type of line: entries of existing, retained and no users,
    erasures of both kinds; all of them sealed and not.
    """
    users = [django_user_model.objects.create_user(email=f"{n}@clinic.example") for n in range(4)]
    details = {"n": 1.5, "t": "ü", "is": True}
    for number in range(4):
        write(resource_id=f"r{number}", timestamp=MOMENT, details=details, ip_address="2001:db8::a")
    write(user=None, activity_id="auth:7", user_agent="curl/8.0")
    for deleted in users:
        write(user=deleted)
    list(seal_pending())
    for is_sealed in (True, False):
        settings.MYOMETRICS_AUDIT = {"ON_USER_DELETE": "cascade"}
        users.pop().delete()
        settings.MYOMETRICS_AUDIT = {"ON_USER_DELETE": "retain"}
        users.pop().delete()
        write(resource_id="last", ip_address="10.0.0.1")
        if is_sealed:
            list(seal_pending())
    return [json.loads(line) for line in proof_lines()]


def problems(lines):
    """The problems of these lines. Raises ``ValueError`` if they are not an export."""
    try:
        return list(export_problems(json.dumps(line) for line in lines))
    except ValueError as error:
        return [f"no export: {error}"]


def test_full_disk_for_temporary_files_is_no_problem_of_the_export(lines, tmp_path, monkeypatch):
    def connect(path):
        connection = sqlite3.Connection(path)
        connection.execute("PRAGMA max_page_count = 1")
        return connection

    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr(sqlite3, "connect", connect)
    with pytest.raises(CommandError, match="disk is full") as refused:
        call_command("audit_export", "--check", str(path))
    assert refused.value.returncode == 2
    with (
        pytest.raises(ArchiveFailed, match="disk is full"),
        written_archive(
            tmp_path / "archive.jsonl.gz",
            path.read_text().splitlines(),
            entries=1,
            progress=lambda written: None,
        ),
    ):
        pass
    assert [one.name for one in tmp_path.iterdir()] == ["log.jsonl"]


def test_export_of_one_seal_has_the_erasures_of_its_users(lines):
    """As a stream writes it, also if the user was deleted since the entries were sealed."""
    for number in (1, 2):
        one = [json.loads(line) for line in proof_lines(only_seal=number)]
        assert problems(one) == []
        assert {line["number"] for line in one if line["type"] == "seal"} == {number}
        assert len([line for line in one if line["type"] == "erasure"]) == 2
        assert problems([line for line in one if line["type"] != "erasure"]) != []


def test_untouched_export_has_no_problems(lines):
    assert problems(lines) == []
    assert set(map(_kind, lines)) == {
        "header",
        "seal",
        "entry",
        "entry without user",
        "retained entry",
        "unsealed entry",
        "erasure",
        "unsealed erasure",
    }


def test_every_changed_value_in_an_export_is_detected(lines):
    of_each_kind = {_kind(line): (number, line) for number, line in enumerate(lines)}
    unseen = [
        (kind, *place, altered)
        for kind, (number, line) in of_each_kind.items()
        for place, value in _values(line)
        if (kind, *place) not in FREE
        for altered in _alterations(value)
        if not problems([*lines[:number], _with(line, place, altered), *lines[number + 1 :]])
    ]
    assert unseen == []


def test_every_missing_value_in_an_export_is_detected(lines):
    for number, line in enumerate(lines):
        for name in line.keys() - {"exported_at"}:
            without = {key: value for key, value in line.items() if key != name}
            assert problems([*lines[:number], without, *lines[number + 1 :]]), (line["type"], name)


@pytest.mark.parametrize("entry_version", [1])
def test_export_of_release_0_1_is_still_checked(lines, entry_version):
    lines[0]["format"] = "myometrics-audit/1"
    for line in lines:
        line.pop("version", None)
    assert problems(lines) == []
    lines[2]["entry"]["action"] = "edited"
    assert "differs from its leaf" in problems(lines)[0]


@pytest.mark.parametrize("entry_version", [2])
def test_entries_of_version_2_are_checked_without_their_key(lines, entry_version, settings):
    settings.SECRET_KEY = "another-secret-key-of-this-site-" + "y" * 30
    assert not any("differs from its leaf" in problem for problem in problems(lines))
    lines[2]["entry"]["action"] = "edited"
    assert any("differs from its leaf" in problem for problem in problems(lines))


def test_problem_names_the_line_and_the_error(lines):
    number = next(number for number, line in enumerate(lines) if line.get("reason") == "user")
    lines[number]["entries"] += 1
    assert problems(lines) == [
        f"line {number + 1}: erasure {lines[number]['id']} differs from its leaf"
    ]


@pytest.mark.parametrize(
    ("arrange", "message"),
    [
        (lambda lines: _without(lines, "erasure"), "covers 2 erasures, but 1 are here"),
        (lambda lines: _without(lines, "seal"), "is not under seal"),
        (lambda lines: _twice(lines, "entry"), "is repeated or out of order"),
        (lambda lines: _twice(lines, "erasure"), "is repeated or out of order"),
        (lambda lines: _twice(lines, "seal"), "is repeated or out of order"),
        (lambda lines: [*lines, {"type": "remark"}], "can't be read"),
        (lambda lines: [*lines, lines[0]], "can't be read"),
        (lambda lines: lines[1:], "no export: "),
        (lambda lines: [], "no export: "),
    ],
)
def test_removed_added_or_repeated_lines_are_detected(lines, arrange, message):
    assert message in "\n".join(problems(arrange(lines)))


def test_genuine_seal_of_another_history_is_detected(lines):
    first, second = (line for line in lines if line["type"] == "seal")
    second["previous"] = first["root"]
    facts = {**second, "sealed_at": datetime.fromisoformat(second["sealed_at"][:-1] + "+00:00")}
    facts |= {name: bytes.fromhex(second[name]) for name in ("root", "previous")}
    second["signature"] = seal_signature(SimpleNamespace(**facts), active_key()).hex()
    number = lines.index(second) + 1
    assert problems(lines) == [f"line {number}: seal 2 does not follow from the seal before it"]


def test_line_that_is_not_json_does_not_stop_the_check(lines):
    lines[3]["entry"]["action"] = "edited"
    texts = [json.dumps(line) for line in lines]
    texts[2] = texts[2][:-1]
    found = list(export_problems(texts))
    assert [problem.partition(": ")[0] for problem in found] == ["line 3", "line 4"]


def test_deeply_nested_line_is_reported(lines):
    header, *texts = (json.dumps(line) for line in lines)
    deep = "[" * 100_000
    (problem,) = export_problems([header, deep, *texts])
    assert problem.startswith("line 2: can't be read (RecursionError")
    with pytest.raises(ValueError, match="line 1 is not a header"):
        list(export_problems([deep]))


def test_filtered_export_has_no_problems(lines):
    chosen = entries_select(Selection(action="nothing like it"))
    part = list(proof_lines(chosen))
    assert list(export_problems(part)) == []
    assert not any('"type": "entry"' in line for line in part)


def _kind(line):
    kind = str(line["type"])
    if kind in ("entry", "erasure") and line["seal"] is None:
        return f"unsealed {kind}"
    if kind == "entry" and line["subject"] is None:
        return "entry without user"
    return f"retained {kind}" if kind == "entry" and line["pseudonym"] else kind


def _values(value, place=()):
    """Every plain value in a line, with its path."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for name, item in inner:
        if isinstance(item, (dict, list)) and item:
            yield from _values(item, (*place, name))
        else:
            yield (*place, name), item


def _alterations(value):
    """Other values, most of them one character away."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, (int, float)):
        yield from (value + 1, -value - 1, str(value), None)
    elif isinstance(value, str):
        yield from (None, 7, f"{value} ", f"{value}0")
        for position in {*range(min(len(value), 12)), len(value) // 2, len(value) - 1}:
            yield from _other_characters(value, position)
    else:
        yield from ("0", 0, {"x": 1}, [["left", "00"]])


def _other_characters(text, position):
    if text:
        old = text[position]
        for new in {old.swapcase(), " ", "1" if old != "1" else "2"} - {old}:
            yield text[:position] + new + text[position + 1 :]


def _with(line, place, value):
    altered = copy.deepcopy(line)
    inner: Any = altered
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    return altered


def _without(lines, kind):
    number = [line["type"] for line in lines].index(kind)
    return lines[:number] + lines[number + 1 :]


def _twice(lines, kind):
    number = [line["type"] for line in lines].index(kind)
    return [*lines[: number + 1], *lines[number:]]
