"""Usage: python3 dev COMMAND [ARGUMENTS]

Run the example, or check the packages. Everything is installed into .venv first, if need be.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from myometrics_testing.commands import (
    build,
    catalogs,
    docs,
    example,
    keep,
    lint,
    lock,
    matrix,
    sbom,
    test,
)

Command = Callable[[Sequence[str]], int]

COMMANDS: dict[str, Command] = {
    "serve": example.serve,
    "test": test.main,
    "lint": lint.main,
    "format": lint.format_code,
    "docs": docs.main,
    "translations": catalogs.main,
    "manage": example.manage,
    "tox": matrix.main,
    "build": build.main,
    "keep": keep.main,
    "lock": lock.main,
    "sbom": sbom.main,
}


def main(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    command = COMMANDS.get(arguments[0])
    if command is None:
        print(f"There is no command {arguments[0]!r}.\n\n{usage()}", file=sys.stderr)
        return 2
    return command(arguments[1:])


def usage() -> str:
    """Return the module's docstring and the first line of each command's."""
    lines = [f"  {name:13}{_summary(command)}" for name, command in COMMANDS.items()]
    more = "python3 dev COMMAND --help says more."
    return "\n".join([(__doc__ or "").strip(), "", "Commands:", *lines, "", more])


def _summary(command: Command) -> str:
    return (command.__doc__ or "").strip().splitlines()[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
