"""The site on nine machines: nginx, two web hosts, two workers, and a server of each kind."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psycopg
import trustme
from proxied_site import PAGES, configure_nginx, documented_variables
from running_site import PROJECT, RunningSite, unit_commands

from myometrics_testing.services import OwnedServer
from myometrics_testing.waiting import PATIENCE, wait_for
from myometrics_testing.walkthrough import section

NAME = "api.clinic.example"
WEB_PORT, HTTPS_PORT = 8001, 8443
WEBS, WORKERS = ("web1", "web2"), ("worker1", "worker2")
MACHINES = ("nginx", *WEBS, *WORKERS, "primary", "replica", "redis", "rabbitmq")
EXPORTS_PER_HOUR = 5
# As the units do: a worker that loses the broker while it starts ends.
RESTARTED = ["sh", "-c", 'while true; do "$@"; sleep 2; done', "unit"]


class SeveralMachines(RunningSite):
    """The processes of the site, each on its machine of ``network``, and nginx at :attr:`url`."""

    def __init__(self, folder, network, servers):
        super().__init__(folder, _database_of_site(servers["primary"]), servers["redis"].url)
        self.network, self.servers = network, servers
        self.url = f"https://{NAME}:{HTTPS_PORT}"
        self.environment |= {
            **documented_variables(),
            "ALLOWED_HOSTS": NAME,
            "CELERY_BROKER_URL": servers["rabbitmq"].url,
            "REPLICA_URLS": _database_of_site(servers["replica"]),
            "TRUSTED_PROXIES": self._address("nginx"),
            "WEB_CONCURRENCY": "1",
            # The site's own limits of requests have separate tests.
            "RATE_LIMIT_AUTH": "10000/minute",
            "RATE_LIMIT_API": "100000/minute",
            "RATE_LIMIT_EXPORT": f"{EXPORTS_PER_HOUR}/hour",
        }
        self._command = self._configure_nginx()

    def start(self):
        """Migrate, start every process on its machine, wait until the site is ready."""
        self.manage("migrate", "--verbosity=0")
        for name in WEBS:
            self.run_on(name, "web", HOST=self._address(name), PORT=str(WEB_PORT))
        for name in WORKERS:
            self.run_on(name, "worker")
            self.run_on(name, "beat")
        self._spawn("nginx", "nginx", [*self._command, "-g", "daemon off;"])
        for web in WEBS:
            wait_for(lambda web=web: self._web_is_ready(web), log=lambda: self.log)
        self.wait_until_ready()
        for name in WORKERS:
            wait_for(lambda name=name: f"celery@{name} ready" in self.log, log=lambda: self.log)

    def run_on(self, machine, name, **variables):
        """Start the process ``name`` of the systemd units on a machine."""
        program, *arguments = unit_commands()[name]
        if name == "worker":
            arguments.append(f"--hostname=celery@{machine}")
        command = [*RESTARTED, str(Path(sys.executable).parent / program), *arguments]
        self._spawn(machine, f"{name} on {machine}", command, **variables)

    def web(self, name, method, path, access=None, body=None):
        """The response of one web host, not through nginx."""
        headers = {"Host": NAME, "X-Forwarded-Proto": "https"}
        if access:
            headers["Authorization"] = f"Bearer {access}"
        url = f"http://{self._address(name)}:{WEB_PORT}{path}"
        return httpx.request(method, url, json=body, headers=headers, timeout=PATIENCE)

    @property
    def upstreams(self):
        """The web hosts of each line of nginx's access log."""
        lines = (self.folder / "myometrics.log").read_text().splitlines()
        found = (re.search('"upstream": "([^"]*)"', line) for line in lines)
        names = {self._address(web): web for web in WEBS}
        return [
            [names[each.partition(":")[0]] for each in match[1].split(", ") if each]
            for match in found
            if match
        ]

    @property
    def answered_by(self):
        """The web host of each request that a web host answered, from nginx's access log."""
        lines = (self.folder / "myometrics.log").read_text().splitlines()
        found = (re.search('"status": [1-4].*"upstream": "([^":, ]+):', line) for line in lines)
        names = {self._address(web): web for web in WEBS}
        return [names[match[1]] for match in found if match]

    def _address(self, name):
        return self.network.machines[name].address

    def _spawn(self, machine, name, command, **variables):
        prefix = self.network.machines[machine].command(PROJECT)
        self.processes[name] = subprocess.Popen(
            [*prefix, *command],
            cwd=PROJECT,
            env={**self.environment, **variables},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def _web_is_ready(self, name):
        try:
            return self.web(name, "GET", "/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def _configure_nginx(self):
        folder, address = self.folder, self._address("nginx")
        authority = trustme.CA()
        certificate = authority.issue_cert(NAME)
        authority.cert_pem.write_to_path(str(folder / "authority.pem"))
        certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
        certificate.cert_chain_pems[0].write_to_path(str(folder / "certificate.pem"))
        addresses = {
            "api.clinic.example": NAME,
            "https://clinic.example": "https://clinic.example",
            "listen 80": f"listen {address}:8080",
            "listen [::]:80": "listen [::1]:8080",
            "listen 443": f"listen {address}:{HTTPS_PORT}",
            "listen [::]:443": f"listen [::1]:{HTTPS_PORT}",
        }
        for number, web in enumerate(WEBS, 1):
            addresses[f"server 127.0.0.1:800{number}"] = f"server {self._address(web)}:{WEB_PORT}"
        command = configure_nginx(folder, addresses)
        path = folder / "conf.d" / "myometrics.conf"
        # As the page says for web hosts: nginx's default takes a host out after a failure.
        path.write_text(path.read_text().replace(" max_fails=0;", ";"))
        return command


def documented_blocks(language):
    """The blocks of ``language`` in the section about several machines."""
    text = section((PAGES / "scaling.md").read_text(), "Several machines")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@contextmanager
def running_servers(network):
    """PostgreSQL with a database ``site`` and a replica, Redis and RabbitMQ, by name."""
    with ExitStack() as stack, ThreadPoolExecutor() as pool:

        def start(name, kind, *arguments):
            machine = network.machines[name]
            within = machine.command(Path("/"))
            return stack.enter_context(
                OwnedServer(kind, *arguments, machine.address, within=within)
            )

        others = [pool.submit(start, name, name) for name in ("redis", "rabbitmq")]
        primary = start("primary", "postgresql")
        replica = start("replica", "postgresql-replica", primary.url)
        _make_database(primary.url)
        redis, rabbitmq = (other.result() for other in others)
        yield {"primary": primary, "replica": replica, "redis": redis, "rabbitmq": rabbitmq}


@contextmanager
def several_machines(folder, network):
    """The site on the machines of ``network``, not started."""
    for name in MACHINES:
        network.add(name)
    if network.drops_packets:
        for block in documented_blocks("cfg"):
            command = network.machines["nginx"].command(Path("/"))
            lines = [line.replace(" ", "") for line in block.splitlines() if "=" in line]
            subprocess.run([*command, "sysctl", "-qw", *lines], check=True)
    with running_servers(network) as servers:
        site = SeveralMachines(folder, network, servers)
        try:
            yield site
        finally:
            site.stop()


@contextmanager
def name_of_site(network):
    """Let clients in this process resolve the site's name to nginx's address."""
    original, address = socket.getaddrinfo, network.machines["nginx"].address

    def getaddrinfo(host, *arguments, **options):
        return original(address if host == NAME else host, *arguments, **options)

    socket.getaddrinfo = getaddrinfo
    try:
        yield
    finally:
        socket.getaddrinfo = original


def _make_database(url):
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE ROLE site LOGIN")
        connection.execute("CREATE DATABASE site OWNER site")
        for block in documented_blocks("sql"):
            connection.execute(block)


def _database_of_site(server):
    return server.url.replace("postgres@", "site@").removesuffix("/postgres") + "/site"
