"""The site on several machines under its client's traffic, and while links are cut.

    python benchmarks/several_machines.py [--seconds 20] [--clients 8] [--report PATH]

Nine machines in network namespaces: nginx, two web hosts (gunicorn with one process of four threads
each), two workers with beat, PostgreSQL with a streaming replica, Redis and RabbitMQ. Clients send
the mix of ``load.py`` over TLS to nginx's address, in a closed loop. Every phase lasts as long: one
web host past nginx, all hosts, then with the links of a machine cut, each followed by one with the
links restored. A cut link drops packets; links are cut between phases, with no request in progress.
CPU is that of each machine's processes, in the phase with all hosts. Needs root, iproute2, nginx
and rabbitmq-server.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import ssl
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "example_project" / "tests")]

from several_machines import (  # noqa: E402
    HTTPS_PORT,
    MACHINES,
    NAME,
    WEB_PORT,
    SeveralMachines,
    name_of_site,
    several_machines,
)

from benchmarks.audit.processes import cpu_seconds  # noqa: E402
from benchmarks.load import (  # noqa: E402
    ENDPOINTS,
    Client,
    Tally,
    machine,
    mixed,
    percentile,
)
from myometrics_testing.machines import NamespaceNetwork, make_network  # noqa: E402

CUTS = ("web2", "replica", "redis", "rabbitmq")


class FarClient(Client):
    """One keep-alive connection to nginx or, without TLS, to a web host."""

    def __init__(self, connection: http.client.HTTPConnection, token: str) -> None:
        super().__init__(0, token)
        self.connection = connection
        self.headers |= {"Host": NAME, "X-Forwarded-Proto": "https"}


@dataclass
class Bench:
    """The running site, and the credentials of the clients."""

    site: SeveralMachines
    network: NamespaceNetwork
    context: ssl.SSLContext
    token: str = ""
    web: str = ""
    """The web host that clients use past nginx; empty for nginx."""

    def client(self) -> Client:
        """Return a new client."""
        if self.web:
            address = self.network.machines[self.web].address
            return FarClient(http.client.HTTPConnection(address, WEB_PORT, timeout=90), self.token)
        connection = http.client.HTTPSConnection(NAME, HTTPS_PORT, timeout=90, context=self.context)
        return FarClient(connection, self.token)

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds used so far on each machine."""
        roots = {name: list[int]() for name in MACHINES}
        for name, process in self.site.processes.items():
            roots[name.rpartition(" ")[2]].append(process.pid)
        for name, server in self.site.servers.items():
            roots[name].append(server._owner.pid)
        return {name: cpu_seconds(pids) for name, pids in roots.items()}


@dataclass
class Phase:
    """What clients measured in one phase."""

    name: str
    tallies: dict[str, Tally]
    seconds: float

    @property
    def latencies(self) -> list[float]:
        return [value for tally in self.tallies.values() for value in tally.seconds]

    def row(self) -> str:
        """Return its row of the report."""
        values = self.latencies
        errors = sum(tally.errors for tally in self.tallies.values())
        shown = (f"{percentile(values, share):.0f}" for share in (50, 95, 99, 100))
        cells = [self.name, f"{len(values) / self.seconds:.0f}", str(errors), *shown]
        return f"| {' | '.join(cells)} |"


@contextmanager
def bench() -> Iterator[Bench]:
    """Start all machines, filled and warm."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        network = stack.enter_context(make_network())
        if not isinstance(network, NamespaceNetwork):
            sys.exit("Needs network namespaces: Linux, root, iproute2.")
        site = stack.enter_context(several_machines(folder, network))
        stack.enter_context(name_of_site(network))
        # As the page about nginx says for many clients behind one address.
        path = folder / "conf.d" / "myometrics.conf"
        path.write_text(path.read_text().replace("rate=50r/s", "rate=100000r/s"))
        os.environ["SSL_CERT_FILE"] = str(folder / "authority.pem")
        site.manage("migrate", "--verbosity=0")
        site.environment["DEBUG"] = "true"
        site.manage("seed_demo")
        site.environment["DEBUG"] = "false"
        site.start()
        found = Bench(site, network, ssl.create_default_context())
        status, body = found.client().send(ENDPOINTS[0])
        assert status == 200, body
        found.token = json.loads(body)["access"]
        yield found


def measure(found: Bench, name: str, options: argparse.Namespace) -> Phase:
    """Return what clients measure in a phase."""
    return Phase(name, *mixed(found.client, options.seconds, options.clients))


def measure_all(found: Bench, options: argparse.Namespace) -> tuple[list[Phase], dict[str, float]]:
    """Return all phases, and the CPU seconds of each machine in the one with all hosts."""
    found.web = "web1"
    phases = [measure(found, "one web host, past nginx", options)]
    found.web = ""
    before = found.cpu()
    phases.append(measure(found, "all machines", options))
    used = {name: seconds - before[name] for name, seconds in found.cpu().items()}
    for name in CUTS:
        with found.network.cut(name):
            phases.append(measure(found, f"{name} cut off", options))
        phases.append(measure(found, f"{name} back", options))
    return phases, used


def report(phases: list[Phase], used: dict[str, float]) -> str:
    """Return the report as Markdown."""
    whole = phases[1]
    lines = [
        "| phase | requests a second | errors | p50 ms | p95 ms | p99 ms | max ms |",
        "|---|---|---|---|---|---|---|",
        *(phase.row() for phase in phases),
        "",
        "Errors are other statuses than 2xx, and broken connections.",
        "",
        "| request, all machines | of 65 | p50 ms | p95 ms | p99 ms | errors |",
        "|---|---|---|---|---|---|",
    ]
    for endpoint in ENDPOINTS:
        tally = whole.tallies[endpoint.name]
        shown = " | ".join(f"{percentile(tally.seconds, share):.1f}" for share in (50, 95, 99))
        lines.append(f"| {endpoint.name} | {endpoint.share} | {shown} | {tally.errors} |")
    lines += ["", "| machine | CPU ms each request |", "|---|---|"]
    count = len(whole.latencies)
    lines += [f"| {name} | {seconds / count * 1000:.2f} |" for name, seconds in used.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20, help="of each phase (default: 20)")
    parser.add_argument("--clients", type=int, default=8, help="at once (default: 8)")
    parser.add_argument("--report", type=Path, help="file to write the report to, as Markdown")
    options = parser.parse_args()
    about = machine()
    with bench() as found:
        mixed(found.client, 2, options.clients)
        phases, used = measure_all(found, options)
    text = report(phases, used)
    print(text)
    if options.report:
        command = f"python benchmarks/several_machines.py --seconds {options.seconds:.0f}"
        words = ["# Several machines", "", f"`{command} --clients {options.clients}`", ""]
        options.report.write_text("\n".join([*words, about + ".", "", text, ""]))


if __name__ == "__main__":
    main()
