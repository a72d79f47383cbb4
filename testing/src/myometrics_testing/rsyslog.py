"""Debian's rsyslog as a receiver of syslog over TLS (packages rsyslog and rsyslog-gnutls)."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import trustme

from myometrics_testing.services import free_port
from myometrics_testing.waiting import wait_for

CONFIGURATION = """
global(
  workDirectory="{folder}"
  maxMessageSize="128k"
  defaultNetstreamDriver="gtls"
  defaultNetstreamDriverCAFile="{folder}/ca.pem"
  defaultNetstreamDriverCertFile="{folder}/server.pem"
  defaultNetstreamDriverKeyFile="{folder}/server.key"
)
module(
  load="imtcp"
  streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="x509/certvalid"
)
input(type="imtcp" address="127.0.0.1" port="{port}")
template(name="raw" type="string" string="%rawmsg%\\n")
action(type="omfile" file="{folder}/received" template="raw")
"""


def make_certificates(folder: Path) -> Path:
    """Write an authority, a server's certificate and a client's certificate to a folder.

    The server is ``siem.example`` and 127.0.0.1.
    """
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    names = {"server": ("siem.example", "127.0.0.1"), "client": ("client.example",)}
    for name, identities in names.items():
        certificate = authority.issue_cert(*identities)
        certificate.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        key = folder / f"{name}.key"
        certificate.private_key_pem.write_to_path(key)
        key.chmod(0o600)
    return folder


class Rsyslog:
    """A server that writes each message as one line, and accepts only known clients."""

    def __init__(self, folder: Path) -> None:
        self.folder = make_certificates(folder)
        self.port = free_port()
        self._received = folder / "received"
        self._process: subprocess.Popen[bytes] | None = None
        configuration = CONFIGURATION.format(folder=folder, port=self.port)
        (folder / "rsyslog.conf").write_text(configuration)

    def start(self) -> None:
        """Start it, and wait until it listens."""
        pid_file = self.folder / "pid"
        pid_file.unlink(missing_ok=True)
        configuration = self.folder / "rsyslog.conf"
        command = ["rsyslogd", "-n", "-f", str(configuration), "-i", str(pid_file)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for(self._listens, log=(self.folder / "log").read_text)

    def kill(self) -> None:
        """Kill it with SIGKILL; what it has not written yet is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def lines(self) -> list[str]:
        """Return the complete messages written so far."""
        if not self._received.exists():
            return []
        return self._received.read_bytes().decode("utf-8", "replace").split("\n")[:-1]

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True
