"""The site on several machines, whose links fail: packets are dropped, nothing is refused.

Every test leaves the site as it found it; the last one verifies the evidence of all.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import httpx
import psycopg
import pytest
from fault_checks import ERROR_SHAPE, assert_clean
from load import Load, upload
from running_site import ADMIN, PASSWORD
from several_machines import (
    EXPORTS_PER_HOUR,
    WEBS,
    WORKERS,
    name_of_site,
    several_machines,
)

from myometrics_testing.concurrency import run_concurrently
from myometrics_testing.machines import make_network
from myometrics_testing.waiting import PATIENCE, wait_for

pytestmark = [
    pytest.mark.long,
    pytest.mark.program("nginx"),
    pytest.mark.program("rabbitmq-server"),
]
drops_packets = pytest.mark.program("network-namespaces")
CUT_OFF = {500, 502, 503, 504}
"""Statuses of requests that were in progress when a link was cut."""


@pytest.fixture(scope="module")
def network():
    with make_network() as found:
        yield found


@pytest.fixture(scope="module")
def running(tmp_path_factory, network):
    folder = tmp_path_factory.mktemp("machines")
    with (
        several_machines(folder, network) as site,
        name_of_site(network),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("SSL_CERT_FILE", str(folder / "authority.pem"))
        site.start()
        site.make_administrator()
        yield site


@pytest.fixture
def site(running):
    running.wait_until_ready()
    yield running
    running.wait_until_ready()


@pytest.fixture
def access(site):
    return wait_for(lambda: signed_in(site))["access"]


@pytest.fixture
def database(running):
    """A function that returns the rows of a statement on the primary, on a new connection."""

    def rows(query):
        url = running.environment["DATABASE_URL"]
        with psycopg.connect(url, autocommit=True) as connection:
            return connection.execute(query).fetchall()

    return rows


def signed_in(site):
    answer = site.post_login()
    return answer.json() if answer.is_success else None


def log_in(site, web):
    body = {"email": ADMIN, "password": PASSWORD}
    answer = site.web(web, "POST", "/api/auth/login/", body=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def is_let_in(site, web, access):
    return site.web(web, "GET", "/api/auth/user/", access).status_code == 200


def test_sign_in_on_one_web_host_counts_on_the_other(site):
    tokens = log_in(site, "web1")
    assert is_let_in(site, "web2", tokens["access"])
    renewed = site.web("web2", "POST", "/api/auth/token/refresh/", body=tokens)
    assert is_let_in(site, "web1", renewed.json()["access"])


def test_session_ended_on_one_web_host_is_refused_by_the_other(site):
    tokens = log_in(site, "web1")
    assert is_let_in(site, "web2", tokens["access"])
    body = {"refresh": tokens["refresh"]}
    ended = site.web("web1", "POST", "/api/auth/logout/", tokens["access"], body)
    assert ended.is_success
    assert site.web("web2", "GET", "/api/auth/user/", tokens["access"]).status_code == 401
    assert site.web("web2", "POST", "/api/auth/token/refresh/", body=body).status_code == 401
    assert signed_in(site)


def register(site):
    """An access token of a new user."""
    number = len(site.log)
    body = {"email": f"user{number}@clinic.example", "password": PASSWORD, "role": "doctor"}
    body |= {"firstName": "Ada", "lastName": "Byron", "clinicName": "North"}
    return site.web("web1", "POST", "/api/auth/register/", body=body).json()["access"]


def count_accepted_exports(site):
    """The number of accepted requests, ``None`` if Redis was too slow for the limit."""
    access, before = register(site), site.log.count("Rate-limit storage can't be reached")
    turns = iter([*WEBS] * 8)
    webs = run_concurrently(lambda: export(site, next(turns), access), times=16)
    is_counted = site.log.count("Rate-limit storage can't be reached") == before
    return [webs.count(status) for status in (200, 429)] if is_counted else None


def export(site, web, access):
    return site.web(web, "GET", "/api/users/me/export/?format=json", access).status_code


def test_rate_limit_is_exact_over_both_web_hosts(site):
    counted = wait_for(lambda: count_accepted_exports(site))
    assert counted == [EXPORTS_PER_HOUR, 16 - EXPORTS_PER_HOUR]


@contextmanager
def load_without_loss(site, access, database):
    """Clients write and read in the block; each confirmed entry is in the log, and none twice."""
    query = "SELECT id, resource_id FROM myometrics_audit_auditlog WHERE action = 'load'"
    before = set(database(query))
    # Below nginx's limit of requests.
    with Load(site.url, access, pause=0.2) as load:
        load.wait_for_successes()
        yield load
    rows = set(database(query)) - before
    assert len({resource for _, resource in rows}) == len(rows)
    assert set(load.written) <= {pk for pk, _ in rows}
    unconfirmed = [each for each in load.refused if each.request.method == "POST"]
    assert len(rows) <= len(load.written) + len(unconfirmed) + len(load.broken)


def last_requests_used(site, web):
    last = site.upstreams[-20:]
    return all(used == [web] for used in last)


@drops_packets
def test_other_web_host_answers_while_one_is_cut_off(site, access, network, database):
    with load_without_loss(site, access, database) as load:
        with network.cut("web1"):
            # nginx stops sending to it.
            wait_for(lambda: last_requests_used(site, "web2"))
            load.wait_for_successes()
        wait_for(lambda: "web1" in site.answered_by[-20:])
    assert load.broken == []
    assert_clean(load.refused)
    assert {answer.status_code for answer in load.refused} <= CUT_OFF
    # Only the requests in progress are lost.
    assert len(load.refused) <= load.clients


WAITING = """
SELECT host(client_addr) FROM pg_stat_activity
 WHERE wait_event_type = 'Lock' AND client_addr IS NOT NULL
"""


def waiting_webs(network, database):
    """The web host of each request that waits for a lock in PostgreSQL."""
    names = {network.machines[web].address: web for web in WEBS}
    return [names[address] for (address,) in database(WAITING) if address in names]


def both_web_hosts_answer(site, access):
    listed(site, access)
    return set(site.answered_by[-4:]) == set(WEBS)


@contextmanager
def requests_in_progress(site, access, network, database):
    """A POST and a GET of each web host wait until the block ends; yields their futures."""
    # A request of an earlier test that failed late may have excluded a host for a while.
    wait_for(lambda: both_web_hosts_answer(site, access))
    entry, path = upload("-in-progress-"), "/audit-logs/"
    last = listed(site, access)[0]
    requests = [("POST", path, entry)] * 2 + [("GET", f"{path}{last}/", None)] * 2
    with ThreadPoolExecutor() as pool, psycopg.connect(site.environment["DATABASE_URL"]) as lock:
        lock.execute("LOCK TABLE myometrics_audit_auditlog IN ACCESS EXCLUSIVE MODE")
        found = []
        for request in requests:
            found.append(pool.submit(site.request, access, *request))
            # One after another: nginx prefers the host with fewer requests.
            wait_for(lambda: len(waiting_webs(network, database)) == len(found))
        yield found
        lock.rollback()


@drops_packets
def test_requests_of_vanished_web_host_end(site, access, network, database):
    with ExitStack() as cut:
        with requests_in_progress(site, access, network, database) as found:
            assert sorted(waiting_webs(network, database)) == ["web1", "web1", "web2", "web2"]
            cut.enter_context(network.cut("web1"))
            # PostgreSQL ends the transactions of the host: nothing is written for it.
            wait_for(lambda: "web1" not in waiting_webs(network, database))
        posts, gets = [each.result() for each in found[:2]], [each.result() for each in found[2:]]
    assert sorted(each.status_code for each in posts) in ([201, 502], [201, 504])
    # nginx repeats a GET, unless the machine is so busy that 30 seconds are over.
    assert {each.status_code for each in gets} <= {200, 502, 504}
    assert_clean([each for each in (*posts, *gets) if not each.is_success])
    written = "SELECT id FROM myometrics_audit_auditlog WHERE resource_id = 'u-in-progress-'"
    assert len(database(written)) == 1


WAITING_DELIVERY = """
SELECT host(client_addr) FROM pg_stat_activity
 WHERE wait_event_type = 'Lock' AND query LIKE '%FOR NO KEY UPDATE%'
"""
END_LEASES = "UPDATE myometrics_core_job SET claimed_until = '2000-01-01' RETURNING id"


def mails_about(site, upload_id):
    return [text for text in site.mails_to(ADMIN) if upload_id in text]


def ask_for_mails(site, access):
    body = {"email_notifications": True}
    assert site.request(access, "PATCH", "/users/me/notifications/", body).status_code == 200


def report(site, access, number):
    """Report an upload, about which a mail is sent; its id."""
    body = upload(f"-machines-{number}-")
    assert site.request(access, "POST", "/audit-logs/", body).status_code == 201
    return body["resource_id"]


@drops_packets
def test_other_worker_takes_over_when_one_is_cut_off(site, access, network, database):
    ask_for_mails(site, access)
    addresses = {network.machines[name].address: name for name in WORKERS}
    with psycopg.connect(site.environment["DATABASE_URL"]) as connection:
        # A worker locks the recipient before it sends.
        connection.execute("SELECT 1 FROM myometrics_auth_user FOR NO KEY UPDATE")
        upload_id = report(site, access, 1)
        ((address,),) = wait_for(lambda: database(WAITING_DELIVERY), log=lambda: site.log)
        with network.cut(addresses[address]):
            # PostgreSQL notices that its client has vanished, and ends the transaction.
            wait_for(lambda: not database(WAITING_DELIVERY))
            connection.rollback()
            database(END_LEASES)
            wait_for(lambda: mails_about(site, upload_id), log=lambda: site.log)
    # Both workers work again; each mail is sent once.
    others = [report(site, access, number) for number in (2, 3)]
    for each in others:
        wait_for(lambda each=each: mails_about(site, each), log=lambda: site.log)
    assert [len(mails_about(site, each)) for each in (upload_id, *others)] == [1, 1, 1]


def services_of(site, access):
    answer = site.request(access, "GET", "/health/")
    return answer.json().get("services", {})


@drops_packets
def test_site_works_while_redis_is_cut_off(site, access, network):
    with network.cut("redis"):
        access = site.sign_in()
        assert site.request(access, "GET", "/auth/user/").status_code == 200
        assert site.request(access, "GET", "/audit-logs/").status_code == 200
        assert site.request(access, "GET", "/analytics/").status_code == 200
        assert site.request(access, "POST", "/audit-logs/", upload(4)).status_code == 201
        wait_for(lambda: services_of(site, access).get("redis") == "down")
        # Each process counts for itself.
        user = register(site)
        statuses = [export(site, "web1", user) for _ in range(EXPORTS_PER_HOUR + 1)]
        assert statuses == [200] * EXPORTS_PER_HOUR + [429]
    wait_for(lambda: services_of(site, access).get("redis") == "up")


@drops_packets
def test_jobs_wait_while_rabbitmq_is_cut_off(site, access, network):
    ask_for_mails(site, access)
    with network.cut("rabbitmq"):
        upload_id = report(site, access, 5)
        wait_for(lambda: services_of(site, access).get("broker") == "down")
    wait_for(lambda: mails_about(site, upload_id), log=lambda: site.log)
    last = report(site, access, 6)
    wait_for(lambda: mails_about(site, last), log=lambda: site.log)
    assert [len(mails_about(site, each)) for each in (upload_id, last)] == [1, 1]


def replicas_of(site, web, access):
    answer = site.web(web, "GET", "/api/health/", access)
    return answer.json().get("services", {}).get("replicas")


def listed(site, access):
    answer = site.request(access, "GET", "/audit-logs/")
    assert answer.status_code == 200, answer.text
    return [entry["id"] for entry in answer.json()["results"]]


@drops_packets
@pytest.mark.parametrize("other", ["primary", None], ids=["from primary", "from all"])
def test_lists_are_current_while_replica_is_cut_off(site, access, network, other):
    wait_for(lambda: services_of(site, access).get("replicas") == "up")
    with network.cut("replica", other):
        entry = site.request(access, "POST", "/audit-logs/", upload(7)).json()
        wait_for(lambda: services_of(site, access).get("replicas") == "down")
        # One process excludes the replica; for the others the cache remembers who has written.
        lists = [listed(site, access) for _ in range(10)]
        is_remembered = "The cache does not remember a write" not in site.log
        assert not is_remembered or all(entry["id"] in each for each in lists)
        for web in WEBS:
            wait_for(lambda web=web: replicas_of(site, web, access) == "down")
        assert all(entry["id"] in listed(site, access) for _ in range(10))
    wait_for(lambda: services_of(site, access).get("replicas") == "up")


def is_ready(site, web):
    return site.web(web, "GET", "/readyz").status_code == 200


@drops_packets
def test_site_recovers_when_primary_is_reachable_again(site, access, network, database):
    processes = [process.pid for process in site.processes.values()]
    with load_without_loss(site, access, database) as load:
        with network.cut("primary"):
            for web in WEBS:
                wait_for(lambda web=web: not is_ready(site, web))
                answer = site.web(web, "GET", "/api/auth/user/", access)
                assert answer.status_code in {500, 503}
                assert set(answer.json()) == ERROR_SHAPE
                assert site.web(web, "GET", "/livez").status_code == 200
        for web in WEBS:
            wait_for(lambda web=web: is_ready(site, web))
        load.wait_for_successes()
    assert load.broken == []
    assert_clean(load.refused)
    assert {answer.status_code for answer in load.refused} <= CUT_OFF
    assert [process.pid for process in site.processes.values()] == processes
    assert all(process.poll() is None for process in site.processes.values())
    site.request(access, "POST", "/auth/password-reset/", {"email": ADMIN})
    wait_for(lambda: site.mails_to(ADMIN))


def test_log_is_intact_after_all_faults(site, access):
    assert isinstance(access, str)
    assert httpx.get(f"{site.url}/livez", timeout=PATIENCE).status_code == 200
    site.manage("audit_verify")
