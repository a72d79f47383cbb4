"""A process of its own that answers requests, on what it reads from standard input.

    python access_process.py '{"ACCESS_TABLE_SECONDS": 60}'

``ask 20`` answers so many requests and prints the seconds of the slowest; ``fork 20`` has a child
do it and end like a web worker; ``dropped`` prints how many accesses were; ``migrate`` makes the
tables. At the end of the input the process ends as Python does.
"""

import json
import os
import sys
import time

import django
from django.conf import settings
from django.core.management import call_command


def ask(times):
    client, slowest = Client(), 0.0
    for _ in range(times):
        start = time.perf_counter()
        assert client.get("/api/nothing").status_code == 404
        slowest = max(slowest, time.perf_counter() - start)
    return slowest


def fork(times):
    if child := os.fork():
        return os.waitpid(child, 0)[1]
    ask(times)
    sys.exit(0)


def answer(line):
    command, _, argument = line.strip().partition(" ")
    if command == "ask":
        return ask(int(argument))
    if command == "fork":
        return fork(int(argument))
    if command == "migrate":
        return call_command("migrate", verbosity=0)
    return access_writer.dropped


settings.MYOMETRICS = json.loads(sys.argv[1])
django.setup()

from django.test import Client  # noqa: E402

from myometrics_core.access_table.writer import access_writer  # noqa: E402

for line in sys.stdin:
    print(answer(line), flush=True)
