"""``manage.py audit_witness``."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path
from socketserver import BaseServer
from threading import Thread
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ....signing.notes import COSIGNATURE, InvalidNote, SigningKey, VerifierKey
from ...witness_server import Witness, make_server


class Command(BaseCommand):
    """Serve a witness."""

    help = (
        "Serve a witness for the logs of other sites: it cosigns each of their checkpoints that "
        "continues the one before (C2SP tlog-witness). Needs neither database nor site; one "
        "process per folder. Stop it with SIGTERM or Ctrl-C. Exit code 2 if it can't start."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--key-file", required=True, help="private key of 'audit_key --witness'"
        )
        parser.add_argument(
            "--log",
            action="append",
            required=True,
            metavar="PUBLIC_KEY",
            help="public key of a log, whose name is the log's origin; can be repeated",
        )
        parser.add_argument("--folder", required=True, help="folder of the newest checkpoints")
        parser.add_argument("--address", default="127.0.0.1:8010", help="host and port")

    def handle(self, *args: Any, **options: Any) -> None:
        host, _, port = options["address"].rpartition(":")
        try:
            key = SigningKey.parse(Path(options["key_file"]).read_text(encoding="utf-8"))
            if key.kind != COSIGNATURE:
                raise InvalidNote("the key is not one of 'audit_key --witness'")
            logs = [VerifierKey.parse(text) for text in options["log"]]
            folder = Path(options["folder"])
            folder.mkdir(parents=True, exist_ok=True)
            server = make_server(Witness(key, logs, folder), host, int(port))
        except (InvalidNote, OSError, ValueError) as error:
            raise CommandError(f"The witness can't start: {error}", returncode=2) from None
        with server:
            address = f"{server.server_address[0]!s}:{server.server_address[1]}"
            for signal_number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(signal_number, partial(_stop, server))
            # After that, who has read the line may stop the witness.
            self.stdout.write(f"{key.verifier} serves {len(logs)} logs at http://{address}/")
            self.stdout.flush()
            server.serve_forever()


def _stop(server: BaseServer, *_signal: Any) -> None:
    # In a thread: `shutdown` waits for the loop, which this thread runs.
    Thread(target=server.shutdown).start()
