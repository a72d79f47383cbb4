"""The logs of other packages, kept by the packages themselves, are imported."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest
from environments import install, rows
from logged_site import PACKAGES, TABLES, LoggedSite

from myometrics_testing.services import OwnedServer

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def server():
    with OwnedServer("postgresql") as owned:
        yield owned


@pytest.fixture(scope="module", params=rows(), ids=str)
def site(request, server, environment_of, tmp_path_factory):
    """A used site, on the oldest and the newest Django."""
    # An environment of its own: the name is part of the cache's key.
    python = environment_of(replace(request.param, name=f"{request.param}-logs"), "audit")
    install(python, *PACKAGES)
    name = f"logs_{request.param}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        info = connection.info
        database = {"NAME": name, "USER": info.user, "HOST": info.host, "PORT": info.port}
    return LoggedSite(tmp_path_factory.mktemp("logs"), python, database)


@pytest.mark.parametrize("package", TABLES)
def test_every_row_of_tables_and_dumps_is_imported_once(site, package):
    expected = site.rows(package)
    assert expected
    counts = [site.audit_import("--from", package, table) for table in TABLES[package]]
    assert sum(one["imported"] for one in counts) == expected
    # The same rows in a dump are known, whether users are named by keys or by names.
    for dump in ("natural.jsonl", "keys.json"):
        again = site.audit_import("--from", package, dump)
        assert again == {
            "rows": expected,
            "imported": 0,
            "known": expected,
            "refused": 0,
            "dry_run": False,
        }
    again = [site.audit_import("--from", package, table) for table in TABLES[package]]
    assert sum(one["rows"] for one in again) == 0


def test_imported_entries_say_who_did_what_without_secrets(site):
    entries, provenance, resources = site.imported()
    about = {entry["details"]["imported"]["from"]: set() for entry in entries}
    for entry in entries:
        if entry["resource_type"] == "wards.patient":
            found = about[entry["details"]["imported"]["from"]]
            found.add((entry["user__username"], entry["action"], entry["resource_id"]))
    changed = {(user, "patient_updated", "1") for user in ("ada", "bob")}
    whole = {(None, "patient_created", "1"), *changed, (None, "patient_deleted", "1")}
    saved = {(user, "patient_saved", "1") for user in ("ada", "bob")}
    assert about == {**dict.fromkeys(TABLES, whole), "reversion": saved}
    assert {("ada", "login_succeeded"), ("ada", "logout"), ("bob", "request_received")} <= {
        (entry["user__username"], entry["action"]) for entry in entries
    }
    assert "hidden-" not in str(entries)
    assert sum(one["imported"] for one in provenance) == len(entries)
    assert sum('"valueString": "import"' in line for line in resources) == len(entries)
    assert "No problems." in site.manage("audit_verify")
