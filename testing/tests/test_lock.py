"""Lock files are complete, name versions and hashes alone, and hold permissive licences."""

import pytest
from packaging.requirements import Requirement

from myometrics_testing.commands import lock, sbom

HASH = " \\\n    --hash=sha256:" + "0" * 64
NEEDED = [Requirement("django>=4.2,<6.2"), Requirement("redis[hiredis]>=4.5")]
COMPLETE = (
    f"django==5.2.1 ; python_full_version < '3.12'{HASH}\n"
    f"django==6.1 ; python_full_version >= '3.12'{HASH}\n"
    f"redis==5.0{HASH}{HASH}\n"
)


def problems(tmp_path, text):
    path = tmp_path / "requirements.txt"
    path.write_text(text)
    return list(lock.find_problems(path, NEEDED))


@pytest.mark.parametrize("path", lock.locks(), ids=lambda path: path.name)
def test_lock_files_satisfy_declarations_on_every_python(path):
    assert list(lock.find_problems(path, lock.locks()[path])) == []


def test_extras_that_the_example_names_are_declared():
    assert "webauthn" in {one.name for one in lock.declared()}


def test_complete_lock_file_has_no_problems(tmp_path):
    assert problems(tmp_path, COMPLETE) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (COMPLETE.replace("redis==5.0", "redis==4.0"), "nothing for redis[hiredis]>=4.5 on"),
        (COMPLETE.replace("redis==", "other=="), "nothing for redis[hiredis]>=4.5 on Python 3.10"),
        (COMPLETE.replace(">= '3.12'", ">= '3.13'"), "nothing for django<6.2,>=4.2 on Python 3.12"),
        (COMPLETE.replace(f"redis==5.0{HASH}{HASH}", "redis==5.0"), "redis has no hash"),
        (f"--index-url https://packages.example/\n{COMPLETE}", "names a place to install from"),
        ("", "nothing for django"),
    ],
)
def test_unusable_lock_file_is_rejected(tmp_path, text, expected):
    found = problems(tmp_path, text)
    assert any(expected in problem for problem in found), found


@pytest.mark.parametrize(
    ("licences", "refused"),
    [
        ([{"license": {"id": "MIT"}}], False),
        ([{"license": {"name": "License :: OSI Approved :: BSD License"}}], False),
        ([{"expression": "GPL-3.0-only OR BSD-3-Clause"}], False),
        ([{"expression": "GPL-3.0-only AND BSD-3-Clause"}], True),
        ([{"license": {"id": "AGPL-3.0-only"}}], True),
        ([{"license": {"id": "GPL-2.0-only"}}], True),
        ([], True),
    ],
)
def test_non_permissive_licences_are_rejected(licences, refused):
    component = {"name": "one", "version": "1", "licenses": licences}
    assert bool(list(sbom.find_problems([component]))) is refused


def test_both_lock_files_install_into_one_environment():
    site, build = (lock.entries(path.read_text()) for path in lock.locks())
    assert site
    versions = {locked.name: locked.specifier for locked, _ in site}
    shared = [locked for locked, _ in build if locked.name in versions]
    assert shared
    assert [locked for locked in shared if locked.specifier != versions[locked.name]] == []
