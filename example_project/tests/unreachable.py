"""Unreachable databases, and connections to them with the site's settings."""

from __future__ import annotations

import dj_database_url
import psycopg
import pytest
from django.db import ConnectionHandler, OperationalError

from config.databases import ready_to_serve
from myometrics_testing.services import free_port
from myometrics_testing.waiting import PATIENCE

REFUSED = f"postgresql://site:wrong@127.0.0.1:{free_port()}/site"


def connections_to(url, pool_size=0):
    """Connections to the database of ``url``, with a long pool timeout."""
    parsed = dict(dj_database_url.parse(url))
    database = ready_to_serve(parsed, pool_size=pool_size, pools_transactions=False)
    if pool_size:
        database["OPTIONS"]["pool"]["timeout"] = PATIENCE
    return ConnectionHandler({"default": database})


def attempt(handler):
    """The error of an attempt to connect."""
    with pytest.raises(OperationalError) as caught:
        handler["default"].ensure_connection()
    return str(caught.value)


def is_refused(url):
    """Whether the server rejects the user of ``url``."""
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return True
    return False
