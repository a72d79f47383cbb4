"""Several machines in one: each has an address, a host name and processes of its own.

With root and iproute2 on Linux a machine is a set of namespaces behind a router, which can drop the
packets of a machine or between two. Elsewhere machines are only addresses of the loopback
interface: :attr:`Network.drops_packets` is false, and a warning says so.

Nothing stays behind, even after SIGKILL: the first process of each machine ends with the test, the
kernel ends the others with it, and removes namespaces and links with the last process.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from myometrics_testing.programs import (
    NAMESPACES,
    NETWORK_NAMESPACES,
    find_server_program,
)

NETWORKS = tuple(f"198.18.{number}" for number in range(256))
"""Networks of 256 addresses in the range that RFC 2544 reserves for tests."""
HOST, ROUTER, FIRST = 254, 1, 10
"""Last numbers of the addresses of the test, of the router and of the first machine."""
RESOLVER = Path("/etc/resolv.conf")
END_SECONDS = 10.0
"""Time for the processes of a machine to end before they are killed."""


class Machine:
    """A name and an address of the loopback interface."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self.address = name, address

    def command(self, folder: Path) -> list[str]:
        """Return what to put before a command so that it runs on this machine, in ``folder``."""
        return []


class Network:
    """Machines on the loopback interface; a context manager."""

    drops_packets = False

    def __init__(self) -> None:
        self.machines: dict[str, Machine] = {}
        # Distinct for each test run: all of 127.0.0.0/8 is this machine.
        self._prefix = f"127.{1 + os.getpid() // 250 % 250}.{1 + os.getpid() % 250}"

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def host(self) -> str:
        """The address of this process in the network."""
        return "127.0.0.1"

    def add(self, name: str) -> Machine:
        machine = self._make(name, f"{self._prefix}.{FIRST + len(self.machines)}")
        self.machines[name] = machine
        return machine

    def close(self) -> None:
        """Switch all machines off."""

    def _make(self, name: str, address: str) -> Machine:
        return Machine(name, address)


class NamespaceMachine(Machine):
    """The namespaces of the process :attr:`first`."""

    def __init__(self, name: str, address: str) -> None:
        super().__init__(name, address)
        first = [sys.executable, "-m", __name__, name]
        self._owner = subprocess.Popen(
            ["unshare", *NAMESPACES, "--mount-proc", "--fork", "--kill-child", *first],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C goes to us, and to the machine through its stdin
        )
        assert self._owner.stdout is not None
        if self._owner.stdout.readline() != b"up\n":
            raise RuntimeError(f"the machine {name} did not start")
        pid = self._owner.pid
        self.first = int(Path(f"/proc/{pid}/task/{pid}/children").read_text())

    def command(self, folder: Path) -> list[str]:
        return ["nsenter", f"--target={self.first}", *NAMESPACES, f"--wdns={folder}"]

    def power_off(self) -> None:
        """Kill all processes of the machine."""
        os.kill(self.first, signal.SIGKILL)
        self._owner.wait()

    def shut_down(self) -> None:
        """Begin to end all processes of the machine."""
        assert self._owner.stdin is not None
        self._owner.stdin.close()

    def close(self) -> None:
        """End all processes of the machine."""
        self.shut_down()
        self._owner.wait()

    def ip(self, *commands: str) -> None:
        """Run commands of ``ip`` in the machine's network."""
        run_ip(["nsenter", f"--target={self.first}", "--net"], commands)


class NamespaceNetwork(Network):
    """Machines in namespaces, each on a link of its own to one router."""

    drops_packets = True

    def __init__(self) -> None:
        super().__init__()
        self._router = NamespaceMachine("router", "")
        try:
            self._prefix = self._connect_host()
        except BaseException:
            self._router.close()
            raise

    @property
    def host(self) -> str:
        return f"{self._prefix}.{HOST}"

    @contextmanager
    def cut(self, one: str, other: str | None = None) -> Iterator[None]:
        """Drop all packets of a machine, or those between two, until the block ends."""
        self.drop(one, other)
        try:
            yield
        finally:
            self.drop(one, other, action="del")

    def drop(self, one: str, other: str | None = None, *, action: str = "add") -> None:
        """Drop all packets of a machine, or those between two."""
        first = self.machines[one].address
        second = self.machines[other].address if other else "all"
        self._router.ip(
            f"rule {action} from {first} to {second} blackhole",
            f"rule {action} from {second} to {first} blackhole",
        )

    def close(self) -> None:
        started = [one for one in self.machines.values() if isinstance(one, NamespaceMachine)]
        for machine in started:
            machine.shut_down()
        for machine in [*started, self._router]:
            machine.close()
        # The kernel removes the link some time after the router's last process has ended, and
        # until then the next network of this process could not have one of this name.
        subprocess.run(["ip", "link", "delete", _host_link()], capture_output=True, check=False)

    def _make(self, name: str, address: str) -> Machine:
        machine = NamespaceMachine(name, address)
        self._link(name, machine.first)
        self._router.ip(f"route add {address} dev {name}")
        router = f"{self._prefix}.{ROUTER}"
        machine.ip(
            "link set lo up",
            f"addr add {address}/32 dev eth0",
            "link set eth0 up",
            f"route add {router} dev eth0",
            f"route add default via {router}",
        )
        return machine

    def _link(self, name: str, first: int) -> None:
        router = self._router.first
        run_ip([], [f"link add {name} netns {router} type veth peer name eth0 netns {first}"])
        self._router.ip(
            f"addr add {self._prefix}.{ROUTER}/32 dev {name}",
            f"link set {name} up",
        )

    def _connect_host(self) -> str:
        name, router = _host_link(), self._router.first
        run_ip([], [f"link add {name} type veth peer name host netns {router}"])
        run_ip([], [f"link set {name} up"])
        prefix = self._take_prefix(name)
        command = ["nsenter", f"--target={router}", "--net", "sysctl", "-qw"]
        subprocess.run([*command, "net.ipv4.ip_forward=1"], check=True)
        self._router.ip(
            "link set lo up",
            f"addr add {prefix}.{ROUTER}/32 dev host",
            "link set host up",
            f"route add {prefix}.{HOST} dev host",
        )
        return prefix

    @staticmethod
    def _take_prefix(name: str) -> str:
        for prefix in NETWORKS:
            run_ip([], [f"addr add {prefix}.{HOST}/32 dev {name}"])
            route = f"route add {prefix}.0/24 via {prefix}.{ROUTER} dev {name} onlink"
            # Fails if another test run has this network.
            if not subprocess.run(
                ["ip", *route.split()], capture_output=True, check=False
            ).returncode:
                return prefix
            run_ip([], [f"addr del {prefix}.{HOST}/32 dev {name}"])
        raise RuntimeError("no network in 198.18.0.0/16 is free")


def _host_link() -> str:
    """Return the name of this process's end of the link to its router."""
    return f"mm{os.getpid()}"


def run_ip(prefix: Sequence[str], commands: Sequence[str]) -> None:
    """Run commands of ``ip`` one after another; raise ``CalledProcessError`` at the first error."""
    subprocess.run([*prefix, "ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)


def make_network() -> Network:
    """Return a network of namespaces, or one of loopback addresses with a warning."""
    if find_server_program(NETWORK_NAMESPACES):
        return NamespaceNetwork()
    warnings.warn(
        "The machines are addresses of the loopback interface: no network namespaces here "
        "(they need Linux, root, iproute2 and util-linux). No link was cut.",
        stacklevel=2,
    )
    return Network()


def main(name: str) -> None:
    """Be the first process of a machine, until standard input is closed."""
    if os.getpid() != 1:
        # It ends all processes that it can see.
        raise SystemExit("Use NamespaceNetwork: this module must not be run by itself.")
    socket.sethostname(name)
    if RESOLVER.exists():
        # No name server is reachable here: let look-ups fail at once, not after seconds.
        subprocess.run(["mount", "--bind", "/dev/null", str(RESOLVER)], check=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps orphans
    print("up", flush=True)
    sys.stdin.read()
    for number in (signal.SIGTERM, signal.SIGCONT):
        _signal_others(number)
    deadline = time.monotonic() + END_SECONDS
    while _signal_others(0) and time.monotonic() < deadline:
        time.sleep(0.05)


def _signal_others(number: int) -> bool:
    try:
        os.kill(-1, number)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main(*sys.argv[1:])
