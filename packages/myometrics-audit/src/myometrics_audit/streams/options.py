"""The options of streams: the values of ``STREAMS`` of ``MYOMETRICS_AUDIT``."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from django.core.exceptions import ImproperlyConfigured

from ..conf import audit_settings
from .formats import FORMATS, Source

NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,49}")
SYSLOG_FORMATS: Final = ("rfc5424", "cef", "dicom")
DOCUMENT_FORMATS: Final = ("json", "ecs", "ocsf", "fhir")
PROOFS: Final = "proofs"
BODIES: Final = ("ndjson", "array", "splunk", "fhir", "single")
"""How documents are joined to the body of an HTTP request; ``single``: one request for each."""
MAX_RESEND_SECONDS: Final = 10
"""A run waits so long before it ends, within the lease of its job."""
MAX_TIMEOUT_SECONDS: Final = 10
"""For each exchange with the receiver, so that a run ends within the lease of its job."""
HTTP: Final = ("https", "http")
TLS: Final = ("https", "syslog+tls")
DEFAULT_PORTS: Final = {"syslog+tls": 6514, "syslog+tcp": 601, "https": 443, "http": 80}
ALLOWED_FORMATS: Final = {
    "syslog+tls": SYSLOG_FORMATS,
    "syslog+tcp": SYSLOG_FORMATS,
    "unix": SYSLOG_FORMATS,
    "unix+stream": SYSLOG_FORMATS,
    "https": DOCUMENT_FORMATS,
    "http": DOCUMENT_FORMATS,
    "storage": (PROOFS,),
}
"""Scheme of the URL → formats that its transport sends."""
ONLY_FOR: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(("ca_file", "cert_file", "key_file"), TLS),
    **dict.fromkeys(("token", "token_file", "token_scheme", "body", "gzip"), HTTP),
    "server_name": ("syslog+tls",),
    "resend_seconds": ("syslog+tls", "syslog+tcp", "unix", "unix+stream"),
}
"""Option → schemes that have it; all others are for every scheme."""


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """Where a stream sends entries, which ones, and how."""

    name: str
    url: str = field(repr=False)
    format: str
    actions: tuple[str, ...] = ()
    resource_types: tuple[str, ...] = ()
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""
    token: str = field(default="", repr=False)
    token_file: str = ""
    token_scheme: str = ""
    body: str = ""
    gzip: bool = False
    batch_size: int = 500
    batch_bytes: int = 1_000_000
    timeout_seconds: int = 10
    resend_seconds: int = 2

    @cached_property
    def parts(self) -> SplitResult:
        """The parts of the URL."""
        return urlsplit(self.url)

    @property
    def scheme(self) -> str:
        """The scheme of the URL, which selects the transport."""
        return self.parts.scheme

    @property
    def host(self) -> str:
        """The receiver's host name or address."""
        return self.parts.hostname or ""

    @property
    def port(self) -> int:
        """The receiver's port; the standard one by default."""
        return self.parts.port or DEFAULT_PORTS[self.scheme]

    @property
    def place(self) -> str:
        """The receiver without path and query, which may contain a secret."""
        return f"{self.scheme}://{self.parts.netloc or self.parts.path}"

    @property
    def messages_per_batch(self) -> int:
        """The maximum of a batch; the position is saved after each."""
        return 1 if self.body == "single" else self.batch_size

    def read_token(self) -> str:
        """Return the token, read from its file each time; empty if there is none."""
        if self.token_file:
            return Path(self.token_file).read_text(encoding="utf-8").strip()
        return self.token


def stream_names() -> list[str]:
    """Return the names of the configured streams; a system check reports malformed ones."""
    names = audit_settings.STREAMS
    return [name for name in names if is_stream_name(name)] if isinstance(names, Mapping) else []


def stream_source() -> Source:
    """Return the name of this site and process, for messages."""
    values = {"application": "myometrics", "host": socket.gethostname()}
    return Source(**{**values, **audit_settings.STREAM_SOURCE}, process_id=str(os.getpid()))


def is_stream_name(name: Any) -> bool:
    """Return whether a stream may have this name."""
    return isinstance(name, str) and NAME.fullmatch(name) is not None


def stream_options(name: str) -> StreamOptions:
    """Return the options of a stream; raise ``ImproperlyConfigured`` if they are invalid."""
    try:
        return _parsed(name, audit_settings.STREAMS[name])
    except KeyError:
        raise ImproperlyConfigured(f"STREAMS has no stream {name!r}.") from None
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"STREAMS[{name!r}] {error}.") from None


def _parsed(name: Any, values: Any) -> StreamOptions:
    if not is_stream_name(name):
        raise ValueError("has a name with other characters than a-z, 0-9, '-' and '_', or over 50")
    if not isinstance(values, Mapping):
        raise TypeError("must be a dictionary")
    known = {option.name: option for option in fields(StreamOptions) if option.name != "name"}
    for key, value in values.items():
        if key not in known:
            raise ValueError(f"has an unknown key {key!r}; known are {', '.join(known)}")
        _check_type(known[key], value)
    if missing := {"url", "format"} - values.keys():
        raise ValueError(f"needs {' and '.join(sorted(missing))}")
    lists = {key: tuple(values.get(key, ())) for key in ("actions", "resource_types")}
    options = StreamOptions(name=name, **{**values, **lists})
    _check_receiver(options)
    for key in values:
        if options.scheme not in ONLY_FOR.get(key, (options.scheme,)):
            raise ValueError(f"has {key!r}, which is only for {' and '.join(ONLY_FOR[key])}")
    if options.resend_seconds > MAX_RESEND_SECONDS:
        raise ValueError(f"needs at most {MAX_RESEND_SECONDS} for 'resend_seconds'")
    if options.timeout_seconds > MAX_TIMEOUT_SECONDS:
        raise ValueError(f"needs at most {MAX_TIMEOUT_SECONDS} for 'timeout_seconds'")
    _check_authentication(options)
    return options


def _check_type(option: Field[Any], value: Any) -> None:
    kind = str(option.type)
    if kind == "int":
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"needs a number from 1 for {option.name!r}")
    elif kind == "bool":
        if not isinstance(value, bool):
            raise ValueError(f"needs True or False for {option.name!r}")
    elif kind == "str":
        if not isinstance(value, str):
            raise ValueError(f"needs text for {option.name!r}")
    elif not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"needs a list of texts for {option.name!r}")


def _check_receiver(options: StreamOptions) -> None:
    formats = ALLOWED_FORMATS.get(options.scheme)
    if formats is None:
        raise ValueError(f"needs a url that begins with {', '.join(ALLOWED_FORMATS)}")
    if options.format not in formats or options.format not in {*FORMATS, PROOFS}:
        raise ValueError(f"needs one of the formats {', '.join(formats)} for this url")
    if options.parts.username is not None or options.parts.password is not None:
        raise ValueError("has a user in its url; use token or token_file")
    if options.scheme.startswith("unix"):
        if options.parts.netloc or not options.parts.path:
            raise ValueError("needs a url such as unix:///dev/log")
    elif not options.parts.netloc or (options.scheme != "storage" and not options.host):
        raise ValueError("has no host in its url")
    if options.scheme in DEFAULT_PORTS:
        _check_port(options)
    if options.scheme in HTTP and not re.fullmatch(r"[!-~]+", options.url):
        raise ValueError("needs a url without spaces and characters that are not ASCII")


def _check_port(options: StreamOptions) -> None:
    try:
        options.port  # noqa: B018 (parsed here)
    except ValueError:
        raise ValueError("has an invalid port in its url") from None


def _check_authentication(options: StreamOptions) -> None:
    if options.body and options.body not in BODIES:
        raise ValueError(f"needs one of {', '.join(BODIES)} for 'body'")
    if options.token and options.token_file:
        raise ValueError("has both token and token_file")
    if not options.token.isprintable() or not options.token_scheme.isprintable():
        raise ValueError("has control characters in token or token_scheme")
    if bool(options.cert_file) != bool(options.key_file):
        raise ValueError("needs cert_file and key_file together")
