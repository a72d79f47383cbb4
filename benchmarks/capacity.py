"""Capacity of a machine: table sizes, memory of the processes, seals per write.

    python benchmarks/capacity.py [--rows 200000] [--seconds 30] [--report PATH]

Runs the composed site as in production with its own PostgreSQL and Redis. The package's own code
writes the rows in batches of 500; their size is the growth of each table with its indexes. Memory
is measured under the traffic of ``benchmarks/load.py``, as PSS: private memory plus the share of
common memory.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import psycopg  # noqa: E402

from benchmarks.audit.processes import descendants  # noqa: E402
from benchmarks.load import Bench, bench, machine, mixed  # noqa: E402

SIZES = """
SELECT relname, pg_total_relation_size(oid), pg_indexes_size(oid) FROM pg_class
WHERE relkind = 'r' AND relname LIKE 'myometrics_%'
"""
NOISE = 1024 * 1024
"""Tables that grow by fewer bytes are left out."""


def table_sizes(found: Bench) -> dict[str, tuple[int, int]]:
    """Return the bytes of each table: with its indexes, and the indexes alone."""
    with psycopg.connect(found.site.environment["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        return {name: (whole, part) for name, whole, part in connection.execute(SIZES)}


def growth_lines(
    what: str, rows: int, before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]
) -> list[str]:
    """Return a table row for each table that has grown."""
    lines, total = [], 0
    for name, (whole, indexes) in after.items():
        grown = whole - before.get(name, (0, 0))[0]
        if grown < NOISE:
            continue
        total += grown
        share = (indexes - before.get(name, (0, 0))[1]) / grown
        lines.append(f"| {what} | `{name}` | {grown / rows:.0f} | {share:.0%} |")
    return [*sorted(lines), f"| {what} | **all** | **{total / rows:.0f}** | |"]


def memory(pid: int) -> int:
    """Return the PSS of one process in bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no memory is known of process {pid}")


def memory_lines(found: Bench) -> list[str]:
    """Return a table row for each process of the site."""
    lines = []
    for name, process in found.site.processes.items():
        main, *children = descendants(process.pid)
        lines.append(f"| {name} | {memory(main) / 2**20:.0f} |")
        lines += [f"| {name}, a child | {memory(child) / 2**20:.0f} |" for child in children]
    return lines


def rate_of(found: Bench, call: str) -> float:
    """Return the rate per second that ``call`` of ``benchmarks.capacity_inside`` prints."""
    code = f"from benchmarks import capacity_inside; capacity_inside.{call}"
    return float(found.site.manage("shell", "-c", code).split()[-1])


def measure(found: Bench, rows: int, seconds: float) -> str:
    """Measure everything; return Markdown."""
    empty = table_sizes(found)
    written = rate_of(found, f"write_entries({rows})")
    with_entries = table_sizes(found)
    uploaded = rate_of(found, f"write_uploads({rows // 2})")
    with_uploads = table_sizes(found)
    sealed = rate_of(found, "seal()")
    started = time.monotonic()
    tallies, took = mixed(found, seconds, 8)
    answers = sum(len(tally.seconds) for tally in tallies.values())
    errors = sum(tally.errors for tally in tallies.values())
    lines = [
        "## Disk",
        "",
        "| a row of | table | bytes, indexes included | of which indexes |",
        "|---|---|--:|--:|",
        *growth_lines("an entry", rows, empty, with_entries),
        *growth_lines("an upload (two entries)", rows // 2, with_entries, with_uploads),
        "",
        "## Memory",
        "",
        f"After {time.monotonic() - started:.0f} s of traffic:",
        "",
        "| process | MiB |",
        "|---|--:|",
        *memory_lines(found),
        "",
        "## Rates",
        "",
        "| what | a second |",
        "|---|--:|",
        f"| entries written in batches of 500, by one process | {written:,.0f} |",
        f"| entries of uploads written in batches of 500, by one process | {uploaded:,.0f} |",
        f"| entries sealed, by one process | {sealed:,.0f} |",
        f"| mixed requests of 8 clients; {errors} errors | {answers / took:,.0f} |",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=200_000, help="to write (default: 200000)")
    parser.add_argument("--seconds", type=float, default=30, help="of traffic (default: 30)")
    parser.add_argument("--report", type=Path, help="file to write the report to, as Markdown")
    options = parser.parse_args()
    about = machine()
    with bench() as found:
        text = measure(found, options.rows, options.seconds)
    print(text)
    if options.report:
        command = f"python benchmarks/capacity.py --rows {options.rows}"
        words = ["# Capacity", "", f"`{command} --seconds {options.seconds:.0f}`", "", f"{about}."]
        options.report.write_text("\n".join([*words, "", text, ""]))


if __name__ == "__main__":
    main()
