"""The site with two web processes behind nginx, set up as ``docs/operations`` says."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
from running_site import LONG_TIMEOUTS, PROJECT, RunningSite, unit_commands

from myometrics_testing.programs import find_server_program
from myometrics_testing.services import free_port
from myometrics_testing.waiting import PATIENCE, wait_for
from myometrics_testing.walkthrough import section

PAGES = PROJECT.parent / "docs" / "operations"
FRONT_END = "http://localhost:3000"
# As systemd starts a service with a socket: the socket is descriptor 3 of the process.
START_WITH_SOCKET = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def documented_variables():
    """The documented variables without secrets, with the host names of the tests."""
    (block,) = re.findall(r"```ini\n(.*?)```", (PAGES / "deployment.md").read_text(), re.DOTALL)
    text = block.replace("https://clinic.example", FRONT_END)
    text = text.replace("api.clinic.example", "localhost")
    variables = dict(line.split("=", 1) for line in text.splitlines())
    return {name: value for name, value in variables.items() if not name.endswith("_FILE")}


def documented_configuration(replacements):
    """The documented file with the replacements that the page names."""
    page, text = (PAGES / "servers.md").read_text(), (PAGES / "nginx.conf").read_text()
    set_up = section(page, "Put nginx in front").partition("### What the file does")[0]
    named = re.findall(r"^ *\| `([^`]+)` \|", set_up, re.MULTILINE)
    assert set(named) == set(replacements)
    # The longest first: some contain others.
    for before in sorted(named, key=len, reverse=True):
        assert before in text, before
        text = text.replace(before, replacements[before])
    return text


class WebProcess:
    """A gunicorn on a port whose socket stays open while it restarts."""

    def __init__(self, site, **variables):
        self.site, self.variables = site, variables
        self.port = free_port()
        self.open()

    def open(self):
        """Listen on the port, as systemd does."""
        self.socket = socket.create_server(("127.0.0.1", self.port), backlog=1000)

    def start(self):
        """Start gunicorn, which then becomes ready."""
        program, *arguments = unit_commands()["web"]
        gunicorn = str(Path(sys.executable).parent / program)
        number = self.socket.fileno()
        self.process = self.site.spawn(
            [sys.executable, "-c", START_WITH_SOCKET, str(number), gunicorn, *arguments],
            self.variables,
            pass_fds=[number],
        )

    def wait_until_ready(self):
        """Return when it answers."""
        wait_for(self._is_ready, log=lambda: self.site.log)

    def stop(self):
        """Stop gunicorn; it must finish its requests, and exit with 0."""
        self.process.terminate()
        assert self.process.wait(timeout=PATIENCE) == 0

    def restart(self):
        """Restart like ``systemctl restart``."""
        self.stop()
        self.start()
        self.wait_until_ready()

    def reload(self):
        """Reload like ``systemctl reload``; return when new workers have taken over."""
        before = self.workers()
        self.process.send_signal(signal.SIGHUP)
        wait_for(lambda: self.workers() and not self.workers() & before)

    def workers(self):
        """The ids of its worker processes."""
        pid = self.process.pid
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

    def get(self, path, **headers):
        """The response of this process, not through nginx."""
        headers = {"X-Forwarded-Proto": "https", **headers}
        return httpx.get(f"http://localhost:{self.port}{path}", headers=headers, timeout=PATIENCE)

    def _is_ready(self):
        assert self.process.poll() is None, self.site.log
        return self.get("/readyz").status_code == 200


class ProxiedSite(RunningSite):
    """Two web processes, whose threads run the jobs, and nginx at :attr:`url`.

    A third one under ASGI is not behind nginx.
    """

    def __init__(self, folder, database_url, certificate):
        super().__init__(folder, database_url, None)
        self.http_port, self.https_port = free_port(), free_port()
        self.url = f"https://localhost:{self.https_port}"
        self.environment |= {
            **documented_variables(),
            **LONG_TIMEOUTS,
            "WEB_CONCURRENCY": "1",
            "METRICS_TOKEN": "metrics-token",
            "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics"),
            # The site's own limits have separate tests.
            "RATE_LIMIT_AUTH": "10000/minute",
            "RATE_LIMIT_API": "100000/minute",
        }
        certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
        certificate.cert_chain_pems[0].write_to_path(str(folder / "certificate.pem"))
        self.webs = [WebProcess(self), WebProcess(self)]
        self.asgi = WebProcess(self, WEB_WORKER_CLASS="uvicorn_worker.UvicornWorker")
        self._configure_nginx()

    def start(self):
        """Migrate, start the web processes and nginx, wait until the site is ready."""
        self.manage("migrate", "--verbosity=0")
        self.start_all([*self.webs, self.asgi])
        self.nginx = self.spawn([*self.nginx_command, "-g", "daemon off;"])
        self.processes["nginx"] = self.nginx
        self.wait_until_ready()

    def stop(self):
        """Stop every process."""
        for number, web in enumerate([*self.webs, self.asgi]):
            web.socket.close()
            if hasattr(web, "process"):
                self.processes[f"web {number}"] = web.process
        super().stop()

    def make_administrator(self):
        """Create ``ADMIN`` if it does not exist."""
        if "DJANGO_SUPERUSER_EMAIL" not in self.environment:
            super().make_administrator()

    @staticmethod
    def start_all(webs):
        """Start ``webs`` at once; return when all are ready."""
        for web in webs:
            web.start()
        for web in webs:
            web.wait_until_ready()

    def spawn(self, command, variables=None, **options):
        """Start a process of the site."""
        return subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**self.environment, **(variables or {})},
            stdout=self._log,
            stderr=subprocess.STDOUT,
            **options,
        )

    def client(self, address="127.0.0.1", **options):
        """A client that connects from ``address``."""
        transport = httpx.HTTPTransport(local_address=address)
        return httpx.Client(base_url=self.url, transport=transport, timeout=PATIENCE, **options)

    @property
    def nginx_log(self):
        """nginx's access log lines."""
        return (self.folder / "myometrics.log").read_text()

    @property
    def nginx_errors(self):
        """nginx's error log."""
        return (self.folder / "nginx-error.log").read_text()

    def _configure_nginx(self):
        self.nginx_command = configure_nginx(
            self.folder,
            {
                "api.clinic.example": "localhost",
                "https://clinic.example": FRONT_END,
                "server 127.0.0.1:8001": f"server 127.0.0.1:{self.webs[0].port}",
                "server 127.0.0.1:8002": f"server 127.0.0.1:{self.webs[1].port}",
                "listen 80": f"listen {self.http_port}",
                "listen [::]:80": f"listen [::]:{self.http_port}",
                "listen 443": f"listen {self.https_port}",
                "listen [::]:443": f"listen [::]:{self.https_port}",
            },
        )


def configure_nginx(folder, addresses):
    """Write nginx's files to ``folder``, with its certificate there; return the command."""
    certificates = "/etc/letsencrypt/live/api.clinic.example"
    configured = documented_configuration(
        {
            **addresses,
            f"{certificates}/fullchain.pem": f"{folder}/certificate.pem",
            f"{certificates}/privkey.pem": f"{folder}/key.pem",
            "/var/log/nginx/": f"{folder}/",
        }
    )
    conf_d = folder / "conf.d"
    conf_d.mkdir()
    (conf_d / "myometrics.conf").write_text(configured)
    paths = (f"{kind}_temp_path {folder}/{kind};\n" for kind in TEMPORARY)
    (conf_d / "temporary.conf").write_text("".join(paths))
    (folder / "nginx.conf").write_text(debian_configuration(folder))
    program = find_server_program("nginx")
    assert program, "nginx can't be found or run: apt-get install nginx"
    return [program, "-p", str(folder), "-c", str(folder / "nginx.conf")]


def debian_configuration(folder):
    """Debian's ``nginx.conf``, with everything it writes in ``folder``, and this user."""
    text = Path("/etc/nginx/nginx.conf").read_text()
    user = "user root;" if os.geteuid() == 0 else ""
    for before, after in {
        "user www-data;": user,
        "/run/nginx.pid": f"{folder}/nginx.pid",
        "/var/log/nginx/": f"{folder}/nginx-",
        "/etc/nginx/conf.d/": f"{folder}/conf.d/",
        "include /etc/nginx/sites-enabled/*;": "",
    }.items():
        assert before in text, f"/etc/nginx/nginx.conf is not Debian's: it has no {before!r}"
        text = text.replace(before, after)
    return text
