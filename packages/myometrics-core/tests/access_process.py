"""A process of its own that answers requests, on what it reads from standard input.

    python access_process.py '{"ACCESS_TABLE_SECONDS": 60}'

``ask 20`` answers so many requests and prints whether the thread that does so has connected to the
database; ``fork 20`` has a child do it and end like a web worker; ``dropped`` prints how many
accesses were; ``migrate`` makes the tables; ``patience`` gives the end of the process all the time
that a machine under load needs. At the end of the input the process ends as Python does.
"""

import json
import os
import sys

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connection


def ask(times):
    client = Client()
    for _ in range(times):
        assert client.get("/api/nothing").status_code == 404
    return {"connected": connection.connection is not None}


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
        call_command("migrate", verbosity=0)
        return connection.close()
    if command == "patience":
        writer.PATIENCE = PATIENCE
        return None
    return writer.access_writer.dropped


settings.MYOMETRICS = json.loads(sys.argv[1])
django.setup()

from django.test import Client  # noqa: E402

from myometrics_core.access_table import writer  # noqa: E402
from myometrics_testing.waiting import PATIENCE  # noqa: E402

for line in sys.stdin:
    print(json.dumps(answer(line)), flush=True)
