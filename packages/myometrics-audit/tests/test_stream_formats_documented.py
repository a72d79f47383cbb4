"""The examples and tables of ``docs/audit/stream-formats.md`` are what the code renders."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from stream_messages import SOURCE, make_entry

from myometrics_audit import __version__
from myometrics_audit.sealing.export.interactions import interaction_of
from myometrics_audit.streams.formats import FORMATS
from myometrics_audit.streams.formats.dicom import audit_message
from myometrics_audit.streams.formats.ecs import ecs_event
from myometrics_audit.streams.formats.ocsf import ocsf_event

PAGE = Path(__file__).parents[3] / "docs/audit/stream-formats.md"
TEXT = PAGE.read_text()


def example(name):
    return re.search(rf"^### {name}\n.*?^```\w+\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)[1]


def without_space(text):
    """The text without white space, and with one spelling of empty elements."""
    return re.sub(r"></[A-Za-z]+>", "/>", re.sub(r"\s", "", text))


@pytest.mark.parametrize("name", FORMATS)
def test_documented_message_is_what_the_format_renders(name):
    message = FORMATS[name](make_entry(), SOURCE).decode()
    message = message.replace(__version__, "…").replace("\ufeff", "BOM")
    assert without_space(example(name)) == without_space(message)


def test_documented_formats_are_all():
    assert sorted(re.findall(r"^### (\w+)$", TEXT, re.MULTILINE)) == sorted(FORMATS)


def kinds():
    """Kind, actions, DICOM event, OCSF class and ECS category of each row."""
    table = TEXT.partition("| kind |")[2].partition("\n\n")[0]
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in table.splitlines()[2:]]
    return [(action, row) for row in rows for action in re.findall(r"`(\w+)`", row[1])]


RESOURCES = {"user_created": "user", "password_changed": "user", "audit_log_read": "audit_log"}


@pytest.mark.parametrize(("action", "row"), kinds(), ids=lambda value: str(value)[:30])
def test_documented_codes_are_those_of_the_action(action, row):
    entry = make_entry(action=action, resource_type=RESOURCES.get(action, "clinic.patient"))
    event, *types = re.findall(r"\b1101\d\d\b", row[2])
    xml = audit_message(entry, SOURCE)
    assert re.search(r'<EventID csd-code="(\d+)"', xml)[1] == event
    found = re.findall(r'<EventTypeCode csd-code="(\d+)"', xml)
    assert len(found) <= 1
    assert set(found) <= set(types)
    assert ocsf_event(entry, SOURCE)["class_name"] == row[3]
    assert ecs_event(entry, SOURCE)["event"]["category"] == [row[4].strip("`")]


def test_documented_record_without_a_data_subject_is_an_activity():
    assert interaction_of("report_updated") == "update"
    assert 'EventID csd-code="110100"' in audit_message(
        make_entry(action="report_updated", data_subject=""), SOURCE
    )
