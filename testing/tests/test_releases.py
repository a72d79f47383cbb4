"""Releases are unchanged: kept wheels, their migrations, and the changelogs."""

from __future__ import annotations

import re
from hashlib import sha256
from zipfile import ZipFile

import pytest
from packaging.version import Version

from myometrics_testing.commands.repository import package_folders
from myometrics_testing.releases import FOLDER, all_releases, previous_wheels, release_keep

RELEASES = {release.wheel: release for release in all_releases()}
PACKAGES = package_folders()


def changelog(package):
    return (PACKAGES[package] / "CHANGELOG.md").read_text()


def next_version(package):
    source = PACKAGES[package] / "src" / f"myometrics_{package}" / "__init__.py"
    return Version(re.search(r'^__version__ = "(.+)"$', source.read_text(), re.M)[1])


@pytest.mark.parametrize("wheel", RELEASES)
def test_released_wheel_is_unchanged(wheel):
    release = RELEASES[wheel]
    assert sha256(release.path.read_bytes()).hexdigest() == release.sha256


def test_every_package_has_a_kept_wheel_in_the_table():
    assert {path.name for path in FOLDER.glob("*.whl")} == set(RELEASES)
    assert set(previous_wheels()) == set(PACKAGES)


@pytest.mark.parametrize("wheel", RELEASES)
def test_released_migration_is_unchanged(wheel):
    source = PACKAGES[RELEASES[wheel].package] / "src"
    with ZipFile(RELEASES[wheel].path) as released:
        names = [name for name in released.namelist() if re.search(r"/migrations/\d.*\.py$", name)]
        changed = [
            name
            for name in names
            if not (source / name).exists() or (source / name).read_bytes() != released.read(name)
        ]
    assert changed == []


@pytest.mark.parametrize("package", PACKAGES)
def test_changelog_dates_releases_and_has_unreleased_section(package):
    text = changelog(package)
    assert re.search(r"^## (.+)$", text, re.M)[1] in {"Unreleased", _heading(text, package)}
    dated = set(re.findall(r"^## (\d\S*) \((\d{4}-\d\d-\d\d)\)$", text, re.M))
    kept = {(str(r.version), r.date) for r in RELEASES.values() if r.package == package}
    assert kept <= dated
    # A release can be kept only after it is tagged; all earlier ones must be kept.
    assert {version for version, _ in dated - kept} <= {str(next_version(package))}


def _heading(text, package):
    version = re.escape(str(next_version(package)))
    found = re.search(rf"^## ({version} \(\d{{4}}-\d\d-\d\d\))$", text, re.M)
    return found and found[1]


@pytest.mark.parametrize("package", PACKAGES)
def test_next_version_is_not_released(package):
    released = [r.version for r in RELEASES.values() if r.package == package]
    assert next_version(package) > max(released)


def test_release_cannot_be_kept_twice():
    release = next(iter(RELEASES.values()))
    with pytest.raises(ValueError, match="does not change"):
        release_keep(release.path, commit="0" * 40, date="2026-01-01")
