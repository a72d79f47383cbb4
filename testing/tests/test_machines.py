"""Machines of a test: their links can be cut, and nothing of them stays behind."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from myometrics_testing import machines
from myometrics_testing.machines import Network, make_network
from myometrics_testing.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.any_database
namespaces = pytest.mark.program("network-namespaces")

LISTEN = """
import socket, sys
server = socket.create_server((sys.argv[1], 7))
print(socket.gethostname(), flush=True)
while True:
    server.accept()[0].sendall(b"hello")
"""
START_AND_WAIT = """
import sys, subprocess
from pathlib import Path
from myometrics_testing.machines import NamespaceNetwork
network = NamespaceNetwork()
machine = network.add("web1")
subprocess.Popen([*machine.command(Path("/")), "sleep", sys.argv[1]])
print(machine.address, flush=True)
sys.stdin.read()
"""


def start_listener(machine):
    """A process on the machine that greets each client; its host name."""
    command = [*machine.command(Path("/")), sys.executable, "-c", LISTEN, machine.address]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    return process.stdout.readline().strip()


def greeting(address, seconds=PATIENCE):
    with socket.create_connection((address, 7), timeout=seconds) as connection:
        return connection.recv(5)


@namespaces
def test_packets_of_cut_machine_are_dropped():
    with make_network() as network:
        one, other = network.add("web1"), network.add("web2")
        assert [start_listener(one), start_listener(other)] == ["web1", "web2"]
        assert greeting(one.address) == greeting(other.address) == b"hello"
        with network.cut("web1"):
            with pytest.raises(TimeoutError):
                greeting(one.address, seconds=0.5)
            assert greeting(other.address) == b"hello"
        assert greeting(one.address) == b"hello"


@namespaces
def test_packets_between_two_machines_are_dropped():
    ask = "import socket, sys; socket.create_connection((sys.argv[1], 7), float(sys.argv[2]))"
    with make_network() as network:
        one, other = network.add("web1"), network.add("web2")
        start_listener(one)
        command = [*other.command(Path("/")), sys.executable, "-c", ask, one.address]
        with network.cut("web1", "web2"):
            hurried = [*command, "0.5"]
            refused = subprocess.run(hurried, capture_output=True, text=True, check=False)
            assert "TimeoutError" in refused.stderr or "timed out" in refused.stderr
            assert greeting(one.address) == b"hello"
        subprocess.run([*command, str(PATIENCE)], check=True)


@namespaces
def test_processes_end_with_power(tmp_path):
    with make_network() as network:
        machine = network.add("web1")
        process = subprocess.Popen([*machine.command(tmp_path), "sleep", "600"])
        machine.power_off()
        assert process.wait() != 0


@namespaces
def test_nothing_stays_after_kill_of_test():
    number = f"600.{os.getpid()}"
    owner = subprocess.Popen(
        [sys.executable, "-c", START_AND_WAIT, number],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout.readline()
    wait_for(lambda: is_running(number))
    assert has_link(owner.pid)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    wait_for(lambda: not is_running(number))
    wait_for(lambda: not has_link(owner.pid))


def is_running(argument):
    wanted = f"sleep\0{argument}\0".encode()
    return any(command_line(process) == wanted for process in Path("/proc").glob("[0-9]*"))


def command_line(process):
    try:
        return (process / "cmdline").read_bytes()
    except OSError:  # it has ended
        return b""


def has_link(pid):
    return Path(f"/sys/class/net/mm{pid}").exists()


def test_process_outside_of_a_machine_changes_nothing(monkeypatch):
    changes = []
    monkeypatch.setattr(socket, "sethostname", changes.append)
    monkeypatch.setattr(signal, "signal", lambda *call: changes.append(call))
    monkeypatch.setattr(os, "kill", lambda *call: changes.append(call))
    monkeypatch.setattr(machines, "RESOLVER", Path("/nonexistent"))
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(machines, "END_SECONDS", 0)
    with pytest.raises(SystemExit, match="must not be run by itself"):
        machines.main("web1")
    assert not changes


def test_loopback_network_is_announced(monkeypatch):
    monkeypatch.setattr(machines, "find_server_program", lambda name: None)
    with pytest.warns(UserWarning, match="No link was cut"):
        network = make_network()
    assert type(network) is Network
    addresses = [network.add(name).address for name in ("web1", "web2")]
    for address in addresses:
        socket.create_server((address, 0)).close()
    assert len(set(addresses)) == 2
