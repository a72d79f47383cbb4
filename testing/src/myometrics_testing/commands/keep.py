"""``dev keep``: the wheels of a release, for the upgrade tests."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from myometrics_testing.commands.repository import PREFIX, ROOT, package_folders
from myometrics_testing.releases import release_keep


def main(arguments: Sequence[str]) -> int:
    """Keep the wheels of packages as released by a commit or tag in testing/releases/."""
    folders = package_folders()
    parser = argparse.ArgumentParser(prog="dev keep", description=main.__doc__)
    parser.add_argument("commit", metavar="COMMIT", help="the tag or commit that was released")
    parser.add_argument("packages", nargs="+", metavar="PACKAGE", help=f"of {', '.join(folders)}")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.packages) - set(folders):
        parser.error(f"no package {', '.join(sorted(unknown))}")
    commit, date = _git("show", "--no-patch", "--format=%H %cs", f"{chosen.commit}^{{commit}}")
    with _checked_out(commit) as tree, tempfile.TemporaryDirectory(prefix="mm-") as built:
        for name in chosen.packages:
            wheel = _wheel(tree / "packages" / f"{PREFIX}{name}", Path(built) / name)
            print("kept", release_keep(wheel, commit=commit, date=date).path.relative_to(ROOT))
    return 0


def _git(*arguments: str) -> list[str]:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    return done.stdout.decode().split()


@contextmanager
def _checked_out(commit: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mm-tree-") as folder:
        tree = Path(folder) / "tree"
        _git("worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _wheel(package: Path, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=package, check=True, stdout=subprocess.DEVNULL)
    return next(folder.glob("*.whl"))
