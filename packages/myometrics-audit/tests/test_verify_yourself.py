"""The page for auditors, followed word for word without our code."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from checkpoint_site import KEY, configure_checkpoints
from conftest import DOCUMENTS
from django.core.management import call_command

from myometrics_audit import audit
from myometrics_audit.checkpoints.publication import checkpoint_publish
from myometrics_audit.sealing import seal_pending
from myometrics_testing.evidence import serve

pytestmark = pytest.mark.django_db

PAGE = DOCUMENTS / "verify-yourself.md"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^\$ (.*\n(?:> .*\n)*)((?:(?!\$ ).*\n)*)", re.MULTILINE)


@pytest.fixture
def folder(settings, tmp_path, user, authority):
    """The files of an auditor: the keys, an export, and the certificate of the authority."""
    place, stamp = authority
    with serve(lambda path, body: (200, stamp(body))) as url:
        configure_checkpoints(settings, tmp_path / "tiles", TIMESTAMP_URL=url)
        for name in ("report_printed", "report_signed"):
            audit.record(actor=user, action=name, resource=("report", 17))
            audit.record(actor=None, action="x", resource=("y", 1)) if "printed" in name else None
            list(seal_pending())
            checkpoint_publish()
    folder = tmp_path / "auditor"
    folder.mkdir()
    (folder / "keys").write_text(f"{KEY.verifier}\n")
    call_command("audit_export", "--folder", str(folder / "export"), verbosity=0)
    shutil.copy(place / "ca.pem", folder / "authority.pem")
    shutil.copy(DOCUMENTS / "verify.go", folder)
    return folder


@pytest.mark.program("go")
@pytest.mark.program("openssl")
def test_page_for_auditors_is_correct(folder):
    commands = [
        found for block in BLOCK.findall(PAGE.read_text()) for found in COMMAND.findall(block)
    ]
    assert len(commands) == 11
    for command, output in commands:
        text = command.replace("\n> ", "\n")
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder)}
        done = subprocess.run(
            ["bash", "-c", text],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        expected = output.strip()
        assert re.fullmatch(re.sub(r"[()]", ".", expected), done.stdout.strip()), done.stdout
