"""Speed and memory of sealing and verifying a log.

    DATABASE_URL=… python -m benchmarks.audit.seal_verify --rows 1000000

First makes the data (everything in the database is deleted).
"""

from __future__ import annotations

import argparse
import os
import resource
import time

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.audit.site.settings")

import django

from .data import make


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    django.setup()
    from myometrics_audit.sealing import LogVerifier, seal_pending

    make(rows, sealed=False)
    report("start", rows, 0.0)
    started = time.monotonic()
    for _ in seal_pending():
        pass
    report("sealed", rows, time.monotonic() - started)
    started, verifier = time.monotonic(), LogVerifier()
    problems = sum(1 for _ in verifier.problems())
    report(f"verified, {problems} problems", rows, time.monotonic() - started)


def report(step: str, rows: int, seconds: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rate = f"{rows / seconds:,.0f}/s, " if seconds else ""
    print(f"{step}: {rate}peak memory {peak:,.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
