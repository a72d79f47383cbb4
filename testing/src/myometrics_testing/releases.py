"""The wheels of every release, kept in ``testing/releases``.

Upgrade tests read them from there: clones may be shallow, and no package index is needed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from packaging.utils import parse_wheel_filename
from packaging.version import Version

from myometrics_testing.commands.repository import PREFIX, ROOT

FOLDER = ROOT / "testing" / "releases"
TABLE = FOLDER / "releases.json"


@dataclass(frozen=True, kw_only=True)
class Release:
    """A kept wheel: its source commit, that commit's date, and the digest."""

    wheel: str
    commit: str
    date: str
    sha256: str

    @property
    def path(self) -> Path:
        return FOLDER / self.wheel

    @property
    def package(self) -> str:
        """The package's short name: ``"audit"``."""
        return str(parse_wheel_filename(self.wheel)[0]).removeprefix(PREFIX)

    @property
    def version(self) -> Version:
        return parse_wheel_filename(self.wheel)[1]


def all_releases() -> list[Release]:
    """Return every kept release, in the order of the table."""
    return [Release(**row) for row in json.loads(TABLE.read_text())]


def previous_wheels() -> dict[str, Path]:
    """Return the newest kept wheel of each package by short name."""
    newest = sorted(all_releases(), key=lambda release: release.version)
    return {release.package: release.path for release in newest}


def release_keep(wheel: Path, *, commit: str, date: str) -> Release:
    """Keep ``wheel``, and add it to the table. Raises ``ValueError`` if it is already kept."""
    known = all_releases() if TABLE.exists() else []
    if wheel.name in {release.wheel for release in known}:
        raise ValueError(f"{wheel.name} is kept already; what was released does not change.")
    content = wheel.read_bytes()
    digest = sha256(content).hexdigest()
    release = Release(wheel=wheel.name, commit=commit, date=date, sha256=digest)
    release.path.write_bytes(content)
    rows = [asdict(row) for row in (*known, release)]
    TABLE.write_text(json.dumps(rows, indent=2) + "\n")
    return release
