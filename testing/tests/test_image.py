"""The image is built by the Dockerfile, and the site runs in it; so does a server that
is set up as in the page about systemd.

Without a container engine: buildah builds and runs it in a chroot. Only the base image is another,
made by debootstrap, since a registry of images may be out of reach; ``test_production_files.py``
says that the Dockerfile pins the real one. Networks, volumes and compose are not tried here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

import pytest
from packaging.utils import canonicalize_name

from myometrics_testing.browser import required_program
from myometrics_testing.commands.repository import EXAMPLE, PREFIX, ROOT
from myometrics_testing.services import free_port
from myometrics_testing.walkthrough import blocks_in, section

pytestmark = [pytest.mark.any_database, pytest.mark.containers]

INSTALL = "apt-get install buildah debootstrap (as root)"
BASE, IMAGE = "localhost/python-base", "localhost/myometrics-example"
DEBIAN = "trixie"
PACKAGES = "adduser,ca-certificates,python-is-python3,python3,python3-venv"
CERTIFICATES = "/etc/ssl/certs"
NETWORK = (
    "--network=host",
    # The machine's certificates, where packages come from behind one of its own.
    f"--volume={CERTIFICATES}:{CERTIFICATES}:ro",
    f"--env=PIP_CERT={CERTIFICATES}/ca-certificates.crt",
)
JOURNEY = """
set -eu
python manage.py migrate --verbosity=0
gunicorn --config python:config.gunicorn 2> /tmp/log & server=$!
until python healthcheck.py; do kill -0 $server; sleep 1; done
kill $server
wait $server
if touch /app/file /venv/file 2> /dev/null; then echo writable; fi
id --user
"""


EDIT = """sed -i /etc/myometrics/environment \\
    -e "s|^#SECRET_KEY=.*|SECRET_KEY=kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk|" \\
    -e "s|^#DATABASE_URL=.*|DATABASE_URL=sqlite:////var/lib/myometrics/db.sqlite3|"
"""
"""The minimal changes to the environment file."""
OWN_WAYS = {"apt install": "", "git clone": 'cp -r /source "$RELEASE"', "editor": EDIT}
"""Commands of the page that are replaced: the base has the packages, the code is local."""


class Buildah:
    """``buildah`` with a storage of its own."""

    def __init__(self, folder):
        program = required_program("buildah", install=INSTALL)
        places = [f"--root={folder / 'root'}", f"--runroot={folder / 'runroot'}"]
        self.command = [program, *places, "--storage-driver=vfs"]

    def __call__(self, *arguments):
        done = subprocess.run(
            [*self.command, *arguments],
            cwd=ROOT,
            env={**os.environ, "BUILDAH_ISOLATION": "chroot"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout.strip()


@pytest.fixture(scope="module")
def buildah(tmp_path_factory):
    return Buildah(tmp_path_factory.mktemp("storage"))


@pytest.fixture(scope="module")
def base(buildah, tmp_path_factory):
    """The image of a bare Debian with Python."""
    system = tmp_path_factory.mktemp("system")
    debootstrap = required_program("debootstrap", install=INSTALL)
    command = [debootstrap, "--variant=minbase", f"--include={PACKAGES}", DEBIAN, str(system)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    scratch = buildah("from", "scratch")
    buildah("add", "--quiet", scratch, str(system), "/")
    buildah("commit", "--quiet", scratch, BASE)
    return BASE


@pytest.fixture(scope="module")
def container(buildah, base):
    """A container of the image, built just now."""
    buildah(
        *("bud", "--format=docker", f"--tag={IMAGE}", f"--build-arg=PYTHON={base}", *NETWORK),
        ".",
    )
    return buildah("from", IMAGE)


def test_site_runs_unprivileged_in_image(buildah, container):
    variables = {"SECRET_KEY": "k" * 50, "HOST": "127.0.0.1", "PORT": str(free_port())}
    given = [f"--env={name}={value}" for name, value in variables.items()]
    printed = buildah("run", *given, container, "--", "sh", "-c", JOURNEY)
    assert printed.splitlines()[-1] == "10001"
    assert "writable" not in printed


def test_image_has_locked_packages_and_no_installer(buildah, container):
    code = (
        "import json; from importlib.metadata import distributions as found;"
        "print(json.dumps([[one.name, one.version] for one in found()]))"
    )
    printed = buildah("run", container, "--", "python", "-c", code)
    pairs = json.loads(printed.splitlines()[-1])
    installed = {canonicalize_name(name): version for name, version in pairs}
    text = (EXAMPLE / "requirements.txt").read_text()
    locked = set(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))
    theirs = {item for item in installed.items() if not item[0].startswith(PREFIX)}
    assert theirs
    assert theirs - locked == set()
    assert not {"pip", "hatchling", "setuptools"} & set(installed)


def test_image_has_user_port_and_health_check(buildah, container):
    settings = json.loads(buildah("inspect", "--type=container", container))["Docker"]["config"]
    assert settings["User"] == "site"
    assert settings["Healthcheck"]["Test"] == ["CMD", "python", "healthcheck.py"]
    assert settings["Cmd"] == ["gunicorn", "--config", "python:config.gunicorn"]
    assert list(settings["Volumes"]) == ["/data"]


def test_systemd_page_sets_up_a_server(buildah, base, tmp_path):
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    page = (ROOT / "docs/operations/servers.md").read_text()
    commands = [
        next((own for begin, own in OWN_WAYS.items() if command.startswith(begin)), command)
        for heading in ("Install", "Configure")
        for block in blocks_in(section(page, heading))
        for command, _ in block.commands()
    ]
    commands += ["myometrics-manage migrate --verbosity=0"]
    commands += ["env -u RELEASE myometrics-manage audit_verify"]
    commands += ["stat --format='%a %U' /etc/myometrics/environment /var/lib/myometrics/db.sqlite3"]
    server = buildah("from", base)
    buildah("add", "--quiet", server, str(tmp_path), "/source")
    script = "\n".join(["set -eu", *commands])
    printed = buildah("run", *NETWORK, server, "--", "bash", "-c", script)
    assert "No problems." in printed
    assert printed.splitlines()[-2:] == ["600 myometrics", "644 myometrics"]
