"""A missing Python is always reported."""

from __future__ import annotations

import pytest
from environments import CURRENT, NEWEST, OLDEST, rows

from myometrics_testing.commands.matrix import missing_pythons


@pytest.fixture
def _no_other_python(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))


@pytest.mark.usefixtures("_no_other_python")
def test_missing_python_fails_in_ci_with_instructions(monkeypatch):
    monkeypatch.setenv("CI", "true")
    assert rows() == [OLDEST, NEWEST]
    for row in rows():
        with pytest.raises(pytest.fail.Exception, match=f"pyenv install {row.python}"):
            row.interpreter()


@pytest.mark.usefixtures("_no_other_python")
def test_missing_python_is_named_outside_ci(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    assert rows() == [CURRENT]
    assert missing_pythons() == [OLDEST.python, NEWEST.python]
