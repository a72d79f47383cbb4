"""System checks of streams, under the ids of audit."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from myometrics_core.conf import register_check

from ..conf import audit_settings
from .options import StreamOptions, stream_options

APP = "myometrics_audit"


def register_checks() -> None:
    """Register the checks."""
    register_check(check_streams, app=APP)
    register_check(check_storages, app=APP)
    register_check(check_secret_files, checks.Tags.security, app=APP)
    register_check(check_encryption, checks.Tags.security, app=APP, deploy=True)


def check_streams(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """E070: the options of a stream are invalid, or a file of it can't be read."""
    if audit_settings.check():
        return
    for name in audit_settings.STREAMS:
        try:
            options = stream_options(name)
            _read_files(options)
        except (ImproperlyConfigured, OSError) as error:
            yield checks.Error(
                f"MYOMETRICS_AUDIT: {error}",
                hint="The options of streams are in docs/audit/streams.md.",
                id=f"{APP}.E070",
            )


def check_storages(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """E071: ``STORAGES`` has the storage of each stream."""
    for options in _valid_streams():
        name = options.parts.netloc
        if options.scheme == "storage" and name not in django_settings.STORAGES:
            yield checks.Error(
                f"STORAGES has no {name!r}, to which the stream {options.name!r} writes.",
                hint="Add it, or change the url of the stream.",
                id=f"{APP}.E071",
            )


def check_secret_files(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """W072: other users of the machine can read the private key or the token of a stream."""
    for options in _valid_streams():
        for name in filter(None, (options.key_file, options.token_file)):
            path = Path(name)
            try:
                mode = path.stat().st_mode
            except OSError:  # E070 reports it.
                continue
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                yield checks.Warning(
                    f"Other users of this machine can read or write {path}, a secret of the "
                    f"stream {options.name!r}.",
                    hint=f"Run 'chmod 600 {path}'.",
                    id=f"{APP}.W072",
                )


def check_encryption(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """W073: a stream to another machine is not encrypted."""
    for options in _valid_streams():
        if options.scheme in {"http", "syslog+tcp"} and not _is_local(options.host):
            yield checks.Warning(
                f"The stream {options.name!r} sends entries to {options.host} without encryption.",
                hint="Use https:// or syslog+tls://.",
                id=f"{APP}.W073",
            )


def _valid_streams() -> Iterator[StreamOptions]:
    if audit_settings.check():
        return
    for name in audit_settings.STREAMS:
        try:
            yield stream_options(name)
        except ImproperlyConfigured:
            continue


def _read_files(options: StreamOptions) -> None:
    files = (options.ca_file, options.cert_file, options.key_file, options.token_file)
    for name in filter(None, files):
        Path(name).open("rb").close()


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
