"""The doctor: a registry of examinations, and the command that runs them."""

from __future__ import annotations

import io
import json
import threading

import pytest
from django.core.management import call_command

from myometrics_core import doctor
from myometrics_core.doctor import Diagnosis, register_examination, run_examinations


@pytest.fixture
def no_examinations(monkeypatch):
    """Only what a test registers itself."""
    monkeypatch.setattr(doctor, "_examinations", {})


def run_doctor(*arguments: str) -> tuple[int, str]:
    out, code = io.StringIO(), 0
    try:
        call_command("myometrics_doctor", *arguments, stdout=out, no_color=True)
    except SystemExit as ended:
        code = int(ended.code or 0)
    return code, out.getvalue()


def test_doctor_prints_diagnosis_and_advice(no_examinations):
    register_examination("mail", lambda: [Diagnosis("mail", "warning", "No server.", "Set one.")])
    code, out = run_doctor()
    assert code == 0
    assert "warning: mail: No server.\n    Set one.\n" in out
    assert out.endswith("0 problems, 1 warnings, 0 ok, 0 not configured.\n")


def test_doctor_exits_with_1_for_a_problem(no_examinations):
    register_examination("mail", lambda: [Diagnosis("mail", "problem", "Down.", "Start it.")])
    assert run_doctor()[0] == 1
    assert run_doctor("--json")[0] == 1


def test_doctor_prints_json(no_examinations):
    register_examination("mail", lambda: [Diagnosis("mail", "ok", "Up.")])
    assert json.loads(run_doctor("--json")[1]) == {
        "problems": 0,
        "diagnoses": [{"name": "mail", "state": "ok", "summary": "Up.", "advice": ""}],
    }


def test_examination_that_raises_is_a_problem_without_its_message(no_examinations):
    def examine():
        raise ValueError("redis://:secret@host")

    register_examination("keys", examine)
    register_examination("mail", lambda: [Diagnosis("mail", "ok", "Up.")])
    code, out = run_doctor()
    assert code == 1
    assert "problem: keys: Could not be examined (ValueError)." in out
    assert "ok: mail: Up." in out
    assert "secret" not in out


def test_examination_that_hangs_is_a_problem(no_examinations, monkeypatch):
    monkeypatch.setattr(doctor, "MAX_SECONDS", 0.05)
    ends = threading.Event()
    register_examination("keys", lambda: ends.wait(20) and [])
    assert [found.state for found in run_examinations()] == ["problem"]
    ends.set()


def test_examination_registered_again_is_replaced(no_examinations):
    register_examination("keys", lambda: [Diagnosis("keys", "ok", "Old.")])
    register_examination("keys", lambda: [Diagnosis("keys", "ok", "New.")])
    assert [found.summary for found in run_examinations()] == ["New."]
