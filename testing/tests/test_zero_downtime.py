"""During an upgrade, processes of the previous release keep serving, beside those of ours.

The database is migrated by the packages as they are now, under traffic of the release before.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager

import pytest
from environments import CURRENT
from whole_site import ApiUser, WholeSite, contains, make_environment

from myometrics_testing.releases import previous_wheels
from myometrics_testing.waiting import wait_for


@pytest.fixture
def sites(wheels, tmp_path, postgresql_server):
    """The same site twice on one database: with the previous release, and with ours."""
    previous = make_environment(tmp_path / "previous", CURRENT, previous_wheels().values())
    ours = make_environment(tmp_path / "ours", CURRENT, wheels.glob("*.whl"))
    old = WholeSite(tmp_path / "old", previous, postgresql_server.url, has_jobs=False)
    new = WholeSite(tmp_path / "new", ours, postgresql_server.url, old.secret)
    old.manage("migrate", "--verbosity=0")
    old.make_administrator("root@clinic.example")
    return old, new


@contextmanager
def busy(user):
    """``user`` works without a pause at the previous release, before the block and throughout it.

    Every request must succeed.
    """
    over, done, failed = threading.Event(), [], []

    def work():
        try:
            while not over.is_set():
                done.append(user.upload(f"under way {len(done)}"))
                user.own_pages()
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        wait_for(lambda: done or failed)
        yield done, failed
    finally:
        over.set()
        thread.join()
    assert failed == []


def test_previous_release_serves_during_and_after_migration(sites):
    old, new = sites
    with ExitStack() as servers:
        servers.enter_context(old.served())
        root, ada = ApiUser(old, "root@clinic.example"), ApiUser(old, "ada@clinic.example")
        root.sign_in()
        ada.register()
        with busy(ada) as (uploads, failed):
            before = len(uploads)
            new.manage("migrate", "--verbosity=0")
            wait_for(lambda: failed or len(uploads) > before)
        servers.enter_context(new.served())
        for here, there in ((old, new), (new, old)):
            uploads += _assert_works_at(here, seen_at=there, root=root, ada=ada)
        erased = ApiUser(old, "brief@clinic.example")
        erased.register()
        erased.upload("to be erased")
        # The previous release deletes rows of tables that are jobs now.
        erased.at(new).request("DELETE", "users/me/", 204)
        _assert_evidence_and_numbers(sites, root, len(uploads))


def _assert_works_at(here, *, seen_at, root, ada):
    """Users log in and work at one release; the other shows the same data to the same tokens."""
    ada, root = ada.at(here), root.at(here)
    ada.sign_in()
    root.sign_in()
    name = f"written in {here.folder.name}"
    entry = ada.upload(name)
    ada.request(
        "PATCH", "users/me/notifications/", json={"system_alerts": here.folder.name == "old"}
    )
    there = ada.at(seen_at)
    sees = {here.folder.name: ada.own_pages(), seen_at.folder.name: there.own_pages()}
    assert contains(sees["old"], sees["new"])  # an export may have gained keys
    assert there.own_pages()["users/me/activity/"]["recent_uploads"][0]["id"] == name
    assert {entry["resource_id"] for entry in there.own_pages()["export"]["audit_logs"]} >= {name}
    assert root.at(seen_at).administrator_pages() == root.administrator_pages()
    here.manage("audit_seal")
    here.manage("analytics_fold")
    return [entry]


def _assert_evidence_and_numbers(sites, root, uploads):
    # The previous release can't verify entries of version 2.
    assert "No problems." in sites[1].manage("audit_verify")
    for site in sites:
        figures = root.at(site).request("GET", "analytics/?days=7").json()
        assert figures["system_health"]["total_uploads"] == uploads
        assert "Every rollup equals the facts." in site.manage("analytics_check")
