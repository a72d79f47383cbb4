"""System checks of checkpoints, under the ids of audit."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from myometrics_core.conf import register_check

from ..conf import audit_settings
from ..signing.notes import ED25519
from .checkpoint_keys import signing_key, verifier_keys, witness_keys
from .tile_storage import tile_storage

APP = "myometrics_audit"


def register_checks() -> None:
    """Register the checks."""
    register_check(check_checkpoint_keys, app=APP)
    register_check(check_checkpoint_storage, app=APP)
    register_check(check_timestamps, app=APP)
    register_check(check_key_file, checks.Tags.security, app=APP)


def check_checkpoint_keys(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """E030: a key of checkpoints or of witnesses is missing or malformed."""
    if audit_settings.check():
        return
    try:
        witness_keys()
        if any(key.kind != ED25519 for key in (signing_key().verifier, *verifier_keys())):
            raise ImproperlyConfigured("The key of checkpoints is the key of a witness.")
    except ImproperlyConfigured as error:
        yield checks.Error(
            str(error),
            hint="'manage.py audit_key' makes keys.",
            id=f"{APP}.E030",
        )


def check_checkpoint_storage(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """E031: ``STORAGES`` has the storage of checkpoints."""
    name = audit_settings.CHECKPOINT_STORAGE
    if name not in django_settings.STORAGES:
        yield checks.Error(
            f"STORAGES has no {name!r}, where checkpoints are stored.",
            hint="Add it, or set MYOMETRICS_AUDIT['CHECKPOINT_STORAGE'].",
            id=f"{APP}.E031",
        )


def check_timestamps(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """E034: time-stamps are wanted, but their package is not installed."""
    if audit_settings.TIMESTAMP_URL and find_spec("rfc3161_client") is None:
        yield checks.Error(
            "MYOMETRICS_AUDIT['TIMESTAMP_URL'] needs the package rfc3161-client.",
            hint="Install 'myometrics-audit[timestamps]'.",
            id=f"{APP}.E034",
        )


def check_key_file(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """W032, W033: the private key can be read by others, or lies where files are published."""
    if audit_settings.CHECKPOINT_KEY_FILE is None:
        return
    path = Path(audit_settings.CHECKPOINT_KEY_FILE).resolve()
    if path.exists() and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield checks.Warning(
            f"Other users of this machine can read or write the private key {path}.",
            hint=f"Run 'chmod 600 {path}'.",
            id=f"{APP}.W032",
        )
    for folder in _public_folders():
        if folder in path.parents:
            yield checks.Warning(
                f"The private key {path} lies in {folder}, which is published or in the code.",
                hint="Move it to a folder that only the site's processes can read.",
                id=f"{APP}.W033",
            )
            return


def _public_folders() -> Iterator[Path]:
    folders = [
        getattr(django_settings, name, None) for name in ("MEDIA_ROOT", "STATIC_ROOT", "BASE_DIR")
    ]
    with suppress(Exception):  # of a missing or remote storage
        folders.append(tile_storage().path(""))
    yield from (Path(folder).resolve() for folder in folders if folder)
