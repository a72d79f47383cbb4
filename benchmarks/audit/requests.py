"""CPU and wall time per request (server + database + Redis) of three ways to serve the same log.

    DATABASE_URL=… REDIS_URL=… python -m benchmarks.audit.requests [--rounds 5] [--per-round 100]

Run ``benchmarks.audit.data`` and ``django-admin audit_seal`` first. The ways alternate in one run:
*bare* does only what the response needs, *ours* is the package with rate limit and access log,
*plain* is a ModelViewSet without either. Medians over the rounds, as ratios to *bare*. On a log of
``benchmarks.audit.big_table`` use ``--big-table``: *plain* then reads the entries' own table, and
pages of access reports are measured too; *ours* also records that a report was read.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import sys
import time
from typing import Any
from urllib.parse import quote

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.audit.site.settings")

import django

from .processes import cpu_seconds, database_pid, gunicorn, redis_pid

Cost = tuple[float, float]
"""Milliseconds of CPU and of wall time."""
SLOW_SECONDS = 6.0
BODY = {
    "action": "upload_created",
    "resource_type": "upload",
    "resource_id": "upload_001",
    "details": {"filename": "cardiac_scan.jpg", "file_size": 2048576, "diagnosis": "Normal"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--per-round", type=int, default=100)
    parser.add_argument("--big-table", action="store_true", help="a log of big_table.seed")
    parser.add_argument("--without-plain", action="store_true")
    parser.add_argument("--only", metavar="WORK", action="append", help="works that begin so")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    django.setup()
    chosen = tuple(options.only or [""])
    works = {
        name: paths for name, paths in plan(options.big_table).items() if name.startswith(chosen)
    }
    ways = ["bare", "ours"] + ([] if options.without_plain else ["plain"])
    with gunicorn("ours") as ours, gunicorn("plain") as plain:
        sites = {"ours": ours, "plain": plain, "bare": plain}
        behind = [database_pid(), redis_pid()]
        figures = measure(works, ways, sites, behind, options)
    report(figures, ways, options.json)


def plan(is_big_table: bool = False) -> dict[str, dict[str, str]]:
    """Return the requests to measure: name → way → path (*bare* with precomputed values)."""
    from datetime import datetime, timedelta, timezone

    from django.db import connection

    day = (datetime.now(timezone.utc) - timedelta(days=89)).date().isoformat()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM myometrics_audit_auditlog")
        rows = cursor.fetchone()[0]
        deep, last = rows // 20 // 2, -(-rows // 20)
        places = {page: place(cursor, (page - 1) * 20) for page in (deep, last)}
    filters = {
        "first page": "",
        "action, 10 % of rows": "action=upload_completed",
        "action, 0.1 % of rows": "action=user_deleted",
        "action and resource type": "action=upload_created&resource_type=upload",
        "one user": "user_id=77",
        "one user, 90 days": f"user_id=77&start_date={day}",
        "one user and action": "user_id=77&action=viewed",
        "90 days": f"start_date={day}",
        "action, 90 days": f"action=upload_completed&start_date={day}",
    }
    lists = {"ours": "/ours/audit-logs/", "plain": "/plain/audit-logs/"}
    if is_big_table:
        lists["plain"] = "/plain/entries/"
    works = {
        name: {way: f"{path}?{query}" for way, path in lists.items()}
        | {"bare": f"/bare/audit-logs/?count={rows}&{query}"}
        for name, query in filters.items()
    }
    if is_big_table:
        for name, number in (("a data subject", 50_000), ("the most frequent data subject", 0)):
            subject = f"data_subject=patient-{number}"
            works[f"access report, {name}"] = {
                "ours": f"/ours/audit-logs/access-report/?{subject}",
                "plain": f"{lists['plain']}?{subject}",
                "bare": f"/bare/access-report/?{subject}",
            }
    for page, before in places.items():
        name = f"page {page:,}" + (" (the last)" if page == last else "")
        works[name] = {
            **{way: f"{path}?page={page}" for way, path in lists.items()},
            "bare": f"/bare/audit-logs/?count={rows}&before={quote(before)}",
        }
    return works | {"write": {way: f"/{way}/audit-logs/" for way in ("bare", "ours", "plain")}}


def place(cursor: Any, offset: int) -> str:
    """Return timestamp and id of the row above that offset, newest first."""
    cursor.execute(
        "SELECT timestamp, id FROM (SELECT timestamp, id FROM myometrics_audit_auditlog "
        "ORDER BY timestamp DESC, id DESC OFFSET %s LIMIT 1) last",
        [max(offset - 1, 0)],
    )
    timestamp, entry_id = cursor.fetchone()
    return f"{timestamp.isoformat()},{entry_id}"


def measure(
    works: dict[str, dict[str, str]],
    ways: list[str],
    sites: dict[str, tuple[str, int]],
    behind: list[int],
    options: argparse.Namespace,
) -> dict[str, dict[str, Cost]]:
    """Return work → way → median milliseconds of CPU and of wall time per request.

    Requests of several seconds are measured once.
    """
    from myometrics_audit.sealing import seal_pending
    from myometrics_core.management.command_line import Progress

    samples: dict[str, dict[str, list[Cost]]] = {w: {way: [] for way in ways} for w in works}
    slow: set[tuple[str, str]] = set()
    bar = Progress(sys.stderr, (options.rounds + 1) * len(works) * len(ways), "measurements")
    for round_number in range(options.rounds + 1):
        for work_number, (work, paths) in enumerate(works.items()):
            for way_number, way in enumerate(ways):
                bar.update((round_number * len(works) + work_number) * len(ways) + way_number)
                if (work, way) in slow:
                    continue
                site, pid = sites[way]
                cost = one_round(site, paths[way], [pid, *behind], options.per_round)
                if cost[1] > SLOW_SECONDS * 1000 / 2:
                    slow.add((work, way))
                if round_number or (work, way) in slow:  # the first warms up
                    samples[work][way].append(cost)
        for _ in seal_pending():  # seals the new entries, as the beat task would
            pass
    bar.finish()
    return {
        work: {
            way: tuple(map(statistics.median, zip(*costs, strict=True)))
            for way, costs in by_way.items()
        }
        for work, by_way in samples.items()
    }


def one_round(site: str, path: str, pids: list[int], requests: int) -> Cost:
    """Return the cost of a request; stops early if requests are slow."""
    connection = http.client.HTTPConnection(site, timeout=300)
    method = "GET" if "?" in path else "POST"
    body = json.dumps(BODY) if method == "POST" else None
    headers = {"X-User": "1", "Content-Type": "application/json", "User-Agent": "benchmark"}
    started, before, done = time.monotonic(), cpu_seconds(pids), 0
    while done < requests and time.monotonic() - started < SLOW_SECONDS:
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status not in (200, 201):
            raise RuntimeError(f"{path}: {answer.status} {text[:300]!r}")
        done += 1
    wall = (time.monotonic() - started) / done * 1000
    cost = (cpu_seconds(pids) - before) / done * 1000, wall
    connection.close()
    return cost


def report(figures: dict[str, dict[str, Cost]], ways: list[str], json_file: str | None) -> None:
    others = ways[1:]
    for place, unit in enumerate(("CPU", "wall time")):
        print(f"\n| {unit} | bare, ms | " + " | ".join(f"{way}, × bare" for way in others) + " |")
        print("|---|---|" + "---|" * len(others))
        for work, costs in figures.items():
            cost = {way: both[place] for way, both in costs.items()}
            ratios = " | ".join(f"{cost[way] / cost['bare']:.1f}" for way in others)
            print(f"| {work} | {cost['bare']:.2f} | {ratios} |")
    if json_file:
        with open(json_file, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
