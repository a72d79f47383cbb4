"""The owner of one server: ``python -m myometrics_testing.services.owner postgresql|redis``.

Answers ``ok URL`` when the server is up, then ``ok`` to each of the lines ``stop``, ``start``,
``freeze``, ``thaw``, or ``error REASON``. When standard input closes it stops the server, removes
its folder, and ends.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

from myometrics_testing.services.servers import SERVERS, Server


def main(kind: str) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="mm-", ignore_cleanup_errors=True) as folder:
        server = SERVERS[kind](Path(folder))
        try:
            if _answered(server, "start", server.url):
                _obey(server)
        finally:
            server.thaw()
            server.stop()


def _obey(server: Server) -> None:
    for line in sys.stdin:
        _answered(server, line.strip())


def _answered(server: Server, command: str, *words: str) -> bool:
    try:
        getattr(server, command)()
    except Exception as error:
        print("error", repr(error), flush=True)
        return False
    print("ok", *words, flush=True)
    return True


if __name__ == "__main__":
    main(sys.argv[1])
