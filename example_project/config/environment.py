"""The variables of the environment, parsed and checked.

Each parser takes a variable's text and raises ``EnvError`` with the expected format. :func:`check`
names every invalid variable at once.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured
from environs import Env, EnvError, EnvValidationError
from limits import parse as parse_rate

from myometrics_audit.signing.notes import SigningKey, VerifierKey
from myometrics_auth.conf import ROLES
from myometrics_auth.federation.conf import parse_providers
from myometrics_core.conf import check_redis_url, redact

from .optional.brokers import check_broker_url

DEVELOPMENT_SECRET_KEY = "development-only-" + "not-a-secret-" * 4
EXAMPLE_SECRET_KEYS = {DEVELOPMENT_SECRET_KEY, "your-secret-key", "change-me"}
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
MAX_DURATION = 1_000_000

env = Env(eager=False)


def check(reader: Env) -> None:
    """Raise ``ImproperlyConfigured`` with every invalid variable, one per line."""
    try:
        reader.seal()
    except EnvValidationError as error:
        problems: Any = error.error_messages
        lines = [f"{name}: {' '.join(found)}" for name, found in problems.items()]
        raise ImproperlyConfigured(
            "The environment can't be used:\n  - " + "\n  - ".join(sorted(lines))
        ) from None


def folder(path: Path) -> Path:
    """Return ``path``, created if possible: on a read-only file system it must already exist."""
    with suppress(OSError):
        path.mkdir(parents=True, exist_ok=True)
    return path


def from_file(name: str, default: str = "") -> str:
    """Return the default of variable ``name``: the content of the file in ``<name>_FILE``."""
    content = env.file_content(f"{name}_FILE", "", instead_of=name)
    if content and not os.environ.get(name):
        # Empty, as in a copied .env.example: the file takes precedence.
        os.environ.pop(name, None)
    return content or default


@env.parser_for("file_content")
def file_content(path: str, *, instead_of: str) -> str:
    """The text of a file, used by container platforms for secrets; empty without a path."""
    if not path:
        return ""
    if os.environ.get(instead_of):
        raise EnvError(f"is set beside {instead_of}; set one of the two.")
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise EnvError(f"names a file that can't be read ({type(error).__name__}).") from None
    if not text:
        raise EnvError("names a file that is empty.")
    return text


@env.parser_for("switch")
def switch(text: Any) -> bool:
    """``true``/``false``, ``on``/``off``, ``yes``/``no``, ``1``/``0``; empty is false."""
    word = str(text).strip().lower()
    if word in {"true", "on", "yes", "1"}:
        return True
    if word in {"false", "off", "no", "0", ""}:
        return False
    raise EnvError(f"expected true or false, got {_shown(word)}.")


@env.parser_for("whole_number")
def whole_number(text: Any) -> int:
    """A number of at least 0."""
    if not (str(text).isascii() and str(text).strip().isdigit()):
        raise EnvError(f"expected a whole number from 0, got {_shown(text)}.")
    return int(text)


@env.parser_for("positive_number")
def positive_number(text: Any) -> int:
    """A number of at least 1."""
    number = whole_number(text)
    if number < 1:
        raise EnvError(f"expected a whole number from 1, got {_shown(text)}.")
    return number


@env.parser_for("limit")
def limit(text: Any) -> int | None:
    """A number of at least 1; empty is no limit."""
    return positive_number(text) if str(text).strip() else None


@env.parser_for("duration")
def duration(text: Any) -> timedelta | None:
    """Seconds, or a number with the unit s, m, h or d; empty is none."""
    word = str(text).strip().lower()
    number, unit = (word[:-1], word[-1]) if word[-1:] in UNITS else (word, "s")
    if not word:
        return None
    if not (number.isascii() and number.isdigit() and 0 < int(number) <= MAX_DURATION):
        raise EnvError(f"expected a time such as 900, 30m, 8h or 7d, got {_shown(word)}.")
    return timedelta(**{UNITS[unit]: int(number)})


@env.parser_for("texts")
def texts(text: str) -> list[str]:
    """Items separated by commas."""
    return [item.strip() for item in text.split(",") if item.strip()]


@env.parser_for("choice")
def choice(text: str, *, choices: tuple[str, ...]) -> str:
    """One of ``choices``, case-insensitive; the first is the default."""
    word = text.strip().lower() or choices[0]
    if word not in choices:
        raise EnvError(f"expected {' or '.join(choices)}, got {_shown(text)}.")
    return word


@env.parser_for("job_runner")
def job_runner(text: str, *, has_broker: bool, debug: bool) -> str:
    """A job runner; by default Celery if there is a broker, but threads with DEBUG."""
    runners = ["thread", "tasks", "none"]
    if has_broker:
        runners.insert(1 if debug else 0, "celery")
    return choice(text, choices=tuple(runners))


@env.parser_for("choices")
def choices(text: str, *, known: tuple[str, ...]) -> list[str]:
    """Items of ``known`` separated by commas."""
    for word in texts(text):
        if word not in known:
            raise EnvError(f"expected some of {', '.join(known)}, got {_shown(word)}.")
    return texts(text)


@env.parser_for("log_level_name")
def log_level(text: str) -> str:
    """One of Python's log levels, case-insensitive."""
    if text.upper() not in LOG_LEVELS:
        raise EnvError(f"expected one of {', '.join(LOG_LEVELS)}, got {_shown(text)}.")
    return text.upper()


@env.parser_for("http_url")
def http_url(text: str) -> str:
    """An http or https URL without a trailing slash; may be empty."""
    return _url(text, "http", "https").rstrip("/")


@env.parser_for("exact_url")
def exact_url(text: str) -> str:
    """An http or https URL as it is; may be empty."""
    return _url(text, "http", "https")


@env.parser_for("redis_url")
def redis_url(text: str) -> str:
    """A Redis URL; may be empty. Errors contain no part of it."""
    return _checked(text, check_redis_url)


@env.parser_for("broker_url")
def broker_url(text: str) -> str:
    """The URL of Celery's broker; may be empty. Errors contain no part of it."""
    return _checked(text, check_broker_url)


@env.parser_for("origins")
def origins(text: str) -> list[str]:
    """Origins separated by commas: scheme and host, no path."""
    found = [http_url(item) for item in texts(text)]
    if any(urlsplit(origin).path for origin in found):
        raise EnvError(f"expected origins such as https://host without a path, got {_shown(text)}.")
    return found


@env.parser_for("providers")
def providers(text: str) -> dict[str, Any]:
    """A JSON object of identity providers by slug; may be empty."""
    return _json_object(text, '{"entra": {"roles": {"Admins": "admin"}}}')


@env.parser_for("streams")
def streams(text: str) -> dict[str, Any]:
    """A JSON object of streams by name; may be empty."""
    return _json_object(text, '{"siem": {"url": "https://siem.example/", "format": "ecs"}}')


def _json_object(text: str, example: str) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise EnvError(f"expected a JSON object such as {example}.")
    return found


@env.parser_for("rate")
def rate(text: str) -> str:
    """A rate such as ``5/minute``."""
    try:
        parse_rate(text)
    except ValueError:
        raise EnvError(f"expected a rate such as 5/minute, got {_shown(text)}.") from None
    return text


@env.parser_for("networks")
def networks(text: str, *, besides: str = "") -> list[str]:
    """Networks (CIDR) or addresses separated by commas; ``besides`` is accepted as well."""
    for network in texts(text):
        if network != besides and not _is_network(network):
            expected = " or ".join(filter(None, ["networks such as 10.0.0.0/8,::1", besides]))
            raise EnvError(f"expected {expected}, got {_shown(network)}.")
    return texts(text)


@env.parser_for("database")
def database(text: str) -> dict[str, Any]:
    """A database URL as an entry of ``DATABASES``. Errors never contain its password.

    A PostgreSQL URL may name several hosts, separated by commas.
    """
    try:
        parsed = _database(text)
    except Exception:
        parsed = {}
    if not parsed.get("ENGINE") or not parsed.get("NAME"):
        raise EnvError("expected a URL such as postgresql://user:password@host:5432/name.")
    return parsed


@env.parser_for("databases")
def databases(text: str) -> list[dict[str, Any]]:
    """Database URLs separated by commas, each with one host."""
    return [database(url) for url in texts(text)]


@env.parser_for("secret_key")
def secret_key(text: str, *, debug: bool) -> str:
    """The signing key: required when DEBUG is off, and then not one of the examples."""
    if debug:
        return text or DEVELOPMENT_SECRET_KEY
    if not text:
        raise EnvError(
            "must be set when DEBUG is off. Make one with: "
            'python -c "import secrets; print(secrets.token_urlsafe(50))"'
        )
    if text in EXAMPLE_SECRET_KEYS:
        raise EnvError("is the one from the examples; make one of your own.")
    return text


@env.parser_for("hosts")
def hosts(text: str, *, debug: bool) -> list[str]:
    """Host names separated by commas; without DEBUG no wildcard for every host."""
    found = texts(text)
    if not debug and "*" in found:
        raise EnvError("may not be * when DEBUG is off; name the hosts that this site answers to.")
    return found


@env.parser_for("keys")
def keys(text: str) -> dict[str, str]:
    """``id:secret`` pairs separated by commas, oldest first; at least 32 characters per secret."""
    pairs = [item.partition(":") for item in texts(text)]
    for key_id, _, secret in pairs:
        if not 1 <= len(key_id) <= 32 or len(secret) < 32:
            raise EnvError("expected id:secret pairs, each secret of 32 or more characters.")
    return {key_id: secret for key_id, _, secret in pairs}


@env.parser_for("checkpoint_key")
def checkpoint_key(text: str) -> str:
    """A private key of ``manage.py audit_key``; empty for none. Errors contain no part of it."""
    return _checked(text, SigningKey.parse)


@env.parser_for("witnesses")
def witnesses(text: str) -> dict[str, str]:
    """A JSON object of the URLs of witnesses by public key; may be empty."""
    try:
        found = json.loads(text or "{}")
        for key, url in found.items():
            VerifierKey.parse(key)
            if not exact_url(url):
                raise ValueError(key)
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise EnvError("expected a JSON object: public key of a witness, and its URL.") from None
    return dict(found)


@env.parser_for("identity_providers")
def identity_providers(text: str) -> dict[str, Any]:
    """A JSON object of identity providers by slug; empty for none."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        raise EnvError("expected a JSON object of identity providers by slug.") from None
    if not isinstance(value, dict):
        raise EnvError("expected a JSON object of identity providers by slug.")
    try:
        parse_providers(value, roles=ROLES)
    except ValueError as error:
        raise EnvError(f"{error}.") from None
    return value


def _database(text: str) -> dict[str, Any]:
    hosts = urlsplit(text).netloc.rpartition("@")[2]
    if "," not in hosts:
        return dict(dj_database_url.parse(text))
    # dj-database-url supports one host only; libpq parses the list as it will use it.
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415  (not installed with SQLite)

    several = conninfo_to_dict(f"postgresql://{hosts}")
    ports = str(several.get("port", ""))
    if any(port and not port.isdigit() for port in ports.split(",")):
        raise ValueError("a port is no number")
    parsed = dict(dj_database_url.parse(text.replace(hosts, "host", 1)))
    return {**parsed, "HOST": several["host"], "PORT": ports}


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _checked(text: str, parse: Callable[[str], object]) -> str:
    if text:
        try:
            parse(text)
        except ValueError as error:
            raise EnvError(f"{error}.") from None
    return text


def _url(text: str, *schemes: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in schemes and bool(parts.hostname)
        parts.port  # noqa: B018  (raises on a port that is no number)
    except ValueError:
        usable = False
    if text and not usable:
        raise EnvError(f"expected a URL such as {schemes[0]}://host:port, got {_shown(text)}.")
    if text and "@" in parts.netloc:
        raise EnvError("must have no user name or password in it.")
    return text


def _shown(text: Any) -> str:
    """Return the beginning of a value, without the secrets in URLs."""
    return repr(redact(str(text))[:60])
