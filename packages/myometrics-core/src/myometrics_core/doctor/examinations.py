"""Core's own examinations for ``manage.py myometrics_doctor``."""

from __future__ import annotations

import ipaddress
import math
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.migrations.executor import MigrationExecutor
from django.test import RequestFactory

from ..api.throttling import storage_for, storage_uri
from ..checks import PICKLES_HINT
from ..conf.core_settings import core_settings
from ..conf.definitions import registered_settings
from ..conf.redaction import redact
from ..conf.redis_urls import is_redis_url, redis_pool
from ..db.cache_serializers import is_pickled
from ..db.replicas import NotAReplica, measure_lag
from ..health.probes import LOCAL_BACKENDS
from ..health.report import ServiceState, check_health
from ..jobs.kinds import job_kinds
from ..jobs.models import Job
from ..mail.backend import default_mail_backend_path
from ..observability.gauges import HEALTH_LOG, backup_age_seconds, health_check_age_seconds
from ..times import utc_now
from .registry import Diagnosis, State, covered_checks, describe_age, register_examination

ACCESS_LOG: Final = "myometrics_core.middleware.AccessLogMiddleware"
CACHE_MIDDLEWARE: Final = ("CacheMiddleware", "UpdateCacheMiddleware", "FetchFromCacheMiddleware")
LOCAL_HOSTS: Final = {"localhost", "127.0.0.1", "::1", ""}
MAX_BACKUP_AGE: Final = 26 * 3600.0  # seconds: one day, and two hours for the backup itself
MAX_HEALTH_AGE: Final = 300.0  # seconds; the job runs every 20
MAX_JOB_LATENESS: Final = 300.0  # seconds
RUNNER_ADVICE: Final = {
    "thread": "The threads run in the server's processes, from their first request on.",
    "celery": "See whether a worker and beat run, with beat_schedule of myometrics_core.beat.",
    "tasks": "See whether a worker of TASKS runs, and `manage.py jobs_run --once` by cron.",
    "none": "Run `manage.py jobs_run`.",
}
SERVICE_STATES: Final[Mapping[ServiceState, tuple[State, str, str]]] = {
    "up": ("ok", "Healthy.", ""),
    "not_configured": ("not configured", "This site has none.", ""),
    "down": (
        "problem",
        "Unreachable, or not healthy.",
        "Check that it runs and can be reached from here; the log names the failure.",
    ),
}
BROKERS: Final = {
    **dict.fromkeys(("amqp", "amqps", "pyamqp"), "RabbitMQ"),
    "sentinel": "Redis by Sentinel",
    "redis+socket": "Redis on a Unix socket",
}
BROKER_SECONDS: Final = 3
BACKEND_ATTEMPTS: Final = 5
RATE_LIMIT_CHECKS: Final = ("myometrics_core.E010", "myometrics_core.W010")
SERIOUS_CHECKS: Final = ("security.W009", "security.W020", "security.W025")
"""Warnings of Django that are problems in production: keys that can be guessed, and no hosts."""
PLACEHOLDER_DOMAINS: Final = {"", "localhost", "localhost.localdomain", "example.com"}
ADDRESS: Final = re.compile(r"[^\s'\"<>]*@[^\s'\"<>]+")


@dataclass(frozen=True)
class Subject:
    """Makes the diagnoses of one name."""

    name: str

    def ok(self, summary: str) -> Diagnosis:
        return Diagnosis(self.name, "ok", summary)

    def not_configured(self, summary: str, advice: str = "") -> Diagnosis:
        return Diagnosis(self.name, "not configured", summary, advice)

    def warning(self, summary: str, advice: str) -> Diagnosis:
        return Diagnosis(self.name, "warning", summary, advice)

    def problem(self, summary: str, advice: str) -> Diagnosis:
        return Diagnosis(self.name, "problem", summary, advice)

    def problem_in_production(self, summary: str, advice: str) -> Diagnosis:
        return self.warning(summary, advice) if settings.DEBUG else self.problem(summary, advice)


def register_examinations() -> None:
    """Register core's examinations, basic dependencies first."""
    register_examination("hosts", examine_hosts)
    register_examination("system checks", examine_checks)
    register_examination("database", examine_database)
    register_examination("migrations", examine_migrations, needs_database=True)
    register_examination("replicas", examine_replicas)
    register_examination("services", examine_services)
    register_examination("mail", examine_mail)
    register_examination("celery", examine_celery)
    register_examination("jobs", examine_jobs, needs_database=True)
    register_examination("health log", examine_health_log, needs_database=True)
    register_examination("back-up", examine_backup)
    register_examination("rate limits", examine_rate_limits, covers=RATE_LIMIT_CHECKS)
    register_examination("caches", examine_caches, covers=("myometrics_core.W017",))
    register_examination("middleware", examine_middleware)
    register_examination("proxies", examine_proxies)


def examine_hosts() -> Iterator[Diagnosis]:
    """Check that ALLOWED_HOSTS names hosts; ``security.W020`` reports an empty one."""
    about = Subject("hosts")
    count = len(settings.ALLOWED_HOSTS)
    if "*" in settings.ALLOWED_HOSTS:
        yield about.warning("ALLOWED_HOSTS accepts any host.", "Name the site's own hosts.")
    elif count:
        yield about.ok(f"ALLOWED_HOSTS names {count} hosts.")


def examine_checks() -> Iterator[Diagnosis]:
    """Run the suite's system checks and Django's security checks, including ``--deploy``."""
    prefixes = (*(f"{group.app}." for group in registered_settings()), "security.")
    covered, has_failure = covered_checks(), False
    for message in checks.run_checks(include_deployment_checks=True):
        name = message.id or ""
        if name.startswith(prefixes) and name not in covered and not message.is_silenced():
            has_failure = True
            is_serious = name in SERIOUS_CHECKS and not settings.DEBUG
            state: State = "problem" if is_serious or message.level >= checks.ERROR else "warning"
            first, _, rest = _line(message.msg).partition(". ")
            advice = _line(message.hint or "") or rest or "See Django's deployment checklist."
            yield Diagnosis(name, state, f"{first.rstrip('.')}.", advice)
    if not has_failure:
        yield Subject("system checks").ok("No check of the suite and no security check fails.")


def _line(text: str) -> str:
    """Return ``text`` as one line without passwords and e-mail addresses."""
    return ADDRESS.sub("…", redact(" ".join(str(text).split())))


def examine_database() -> Iterator[Diagnosis]:
    """Check that the database is reachable and supported, and report its connection pooling."""
    about = Subject("database")
    try:
        connection.ensure_connection()
    except Exception as error:  # drivers and pools raise exceptions of their own
        yield about.problem(
            f"Can't be reached ({type(error).__name__}).",
            "Check that the server runs, and DATABASES.",
        )
        return
    if connection.vendor == "postgresql":
        yield about.ok(f"PostgreSQL, {_pooling()}.")
        if _shares_backends():
            yield _transaction_pooling()
    elif connection.vendor == "sqlite":
        state: State = "ok" if settings.DEBUG else "warning"
        advice = "" if settings.DEBUG else "Use PostgreSQL in production."
        yield Diagnosis("database", state, "SQLite: one machine and one writer at a time.", advice)
    else:
        yield about.problem(
            f"{connection.display_name} is not supported.", "Use PostgreSQL or SQLite."
        )


def _pooling() -> str:
    options = connection.settings_dict.get("OPTIONS", {})
    if options.get("pool"):
        return "with a pool of connections in each process"
    age = connection.settings_dict.get("CONN_MAX_AGE")
    return f"connections kept for {age} s" if age else "a new connection for each request"


def _transaction_pooling() -> Diagnosis:
    about = Subject("connection pooler")
    if connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"):
        return about.ok("Pools transactions; cursors don't outlive them.")
    return about.warning(
        "Pools transactions, and QuerySet.iterator() uses cursors that outlive them.",
        "Set DISABLE_SERVER_SIDE_CURSORS in DATABASES (the example: DATABASE_POOLING=transaction).",
    )


def _shares_backends() -> bool:
    """Return whether a pooler serves two connections by one backend; may miss a busy pooler."""
    # The backend announced at connection start; a transaction pooler announces another one.
    announced = connection.connection.info.backend_pid
    if _backend(connection) == announced:
        return False
    other = connections.create_connection(connection.alias)
    try:
        return any(_backend(connection) == _backend(other) for _ in range(BACKEND_ATTEMPTS))
    finally:
        other.close()


def _backend(connected: Any) -> int:
    with connected.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def examine_migrations() -> Iterator[Diagnosis]:
    """Check for unapplied migrations."""
    about = Subject("migrations")
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if plan:
        labels = ", ".join(sorted({migration.app_label for migration, _ in plan}))
        yield about.problem(
            f"{len(plan)} migrations are not applied, of: {labels}.", "Run 'manage.py migrate'."
        )
    else:
        yield about.ok("All are applied.")


def examine_replicas() -> Iterator[Diagnosis]:
    """Check that each replica is reachable, and report its lag."""
    aliases = list(core_settings.READ_REPLICAS)
    if not aliases:
        yield Subject("replicas").not_configured("Everything is read from one database.")
        return
    for alias in aliases:
        if alias in connections and alias != DEFAULT_DB_ALIAS:
            yield _replica(alias)


def _replica(alias: str) -> Diagnosis:
    about = Subject(f"replica {alias}")
    try:
        lag = measure_lag(alias)
        if lag > core_settings.REPLICA_LAG:
            time.sleep(0.5)  # measure again, to ignore a short spike
            lag = min(lag, measure_lag(alias))
    except NotAReplica:
        return about.problem(
            "Is no replica of the primary: it accepts writes, or follows another history.",
            "After a fail-over, rebuild it from the primary, or run CHECKPOINT on it if it "
            "follows the new primary already.",
        )
    except Exception as error:  # drivers and pools raise exceptions of their own
        return about.problem(
            f"Can't be reached ({type(error).__name__}); reads fall back to the primary.",
            "Check that the server runs, and DATABASES.",
        )
    if connections[alias].vendor != "postgresql":
        return about.ok("Reachable; its lag is unknown.")
    allowed = core_settings.REPLICA_LAG
    if lag > allowed:
        behind = "an unknown time" if math.isinf(lag) else describe_age(lag)
        return about.problem(
            f"Is behind by {behind}; REPLICA_LAG allows {allowed:g} s.",
            "Check whether replay is paused, or raise REPLICA_LAG.",
        )
    return about.ok(f"Reachable, {lag:.1f} s behind.")


def examine_services() -> Iterator[Diagnosis]:
    """Run the registered health probes, except those of the database and its replicas."""
    for name, found in check_health(max_age=0).services.items():
        if name not in {"database", "replicas"}:
            yield Diagnosis(name, *SERVICE_STATES[found])


def examine_mail() -> Iterator[Diagnosis]:
    """Check that mail is sent to a server, with a valid sender domain."""
    mail_backend, mail_sender = Subject("mail backend"), Subject("mail sender")
    path = default_mail_backend_path()
    if path is None or not LOCAL_BACKENDS.isdisjoint(path.split(".")):
        diagnose = mail_backend.not_configured if settings.DEBUG else mail_backend.warning
        yield diagnose("Mail does not leave this machine.", "Configure a mail server.")
        return
    yield mail_backend.ok("Mail goes to a server.")
    domain = str(settings.DEFAULT_FROM_EMAIL).rstrip("> ").rpartition("@")[2].lower()
    if domain in PLACEHOLDER_DOMAINS:
        yield mail_sender.warning(
            "DEFAULT_FROM_EMAIL has a placeholder domain: mail servers reject it.",
            "Set DEFAULT_FROM_EMAIL to an address of your own domain.",
        )
    else:
        yield mail_sender.ok("DEFAULT_FROM_EMAIL has a domain.")


def examine_celery() -> Iterator[Diagnosis]:
    """Check that the broker is reachable and a worker responds."""
    celery = Subject("celery")
    runner = core_settings.JOB_RUNNER
    if runner != "celery":
        yield celery.not_configured(f"Jobs are run by JOB_RUNNER = {runner!r}.")
        return
    from celery import current_app  # noqa: PLC0415  (an optional dependency)

    url = str(current_app.conf.broker_read_url or "")
    if current_app.conf.task_always_eager:
        yield celery.warning(
            "Tasks run within requests (CELERY_TASK_ALWAYS_EAGER).", "Turn it off outside of tests."
        )
    elif not url or url.startswith("memory:"):
        yield celery.not_configured(
            "No broker: tasks run in the process that starts them, or not at all.",
            "With more than one process, set a broker and run a worker and beat.",
        )
    else:
        broker = _examine_broker(current_app, url)
        yield broker
        if broker.state == "ok":
            yield _examine_workers(current_app)


def _examine_broker(app: Any, url: str) -> Diagnosis:
    about = Subject("celery broker")
    scheme = url.partition(":")[0]
    kind = BROKERS.get(scheme, "Redis" if scheme.startswith("redis") else scheme)
    try:
        with app.connection_for_read() as link:
            link.ensure_connection(max_retries=1, interval_start=0, timeout=BROKER_SECONDS)
    except Exception as error:  # each transport raises exceptions of its own
        return about.problem(
            f"{kind} can't be reached ({type(error).__name__}).",
            "Check that it runs, and the broker's URL.",
        )
    return about.ok(f"Reachable ({kind}).")


def _examine_workers(app: Any) -> Diagnosis:
    about = Subject("celery worker")
    workers = len(app.control.ping(timeout=1.0) or [])
    if workers:
        return about.ok(f"{workers} workers respond.")
    return about.problem("No worker responds: mail, seals and rollups wait.", "Start a worker.")


def examine_jobs() -> Iterator[Diagnosis]:
    """Check that something runs the jobs, and that none is dead."""
    jobs, now, known = Subject("jobs"), utc_now(), [kind.name for kind in job_kinds()]
    since = Job.objects.due(now).filter(kind__in=known).values_list("run_at", flat=True).first()
    late = (now - since).total_seconds() if since else 0.0
    runner = core_settings.JOB_RUNNER
    if late > MAX_JOB_LATENESS:
        yield jobs.problem(
            f"A job has been due for {describe_age(late)}: nothing runs them, or not enough does.",
            f"JOB_RUNNER is {runner!r}. {RUNNER_ADVICE[runner]}",
        )
    else:
        yield jobs.ok(f"None is late (JOB_RUNNER is {runner!r}).")
    unknown = Job.objects.pending().exclude(kind__in=known).count()
    if unknown:
        yield Subject("jobs of removed apps").warning(
            f"{unknown} jobs are of kinds that no installed app runs.",
            "Install the app again, or cancel them in the admin, under Jobs.",
        )
    dead = Job.objects.dead().count()
    if dead:
        yield Subject("dead jobs").warning(
            f"{dead} jobs have failed for the last time.",
            "See Jobs in the admin: the reason, and the action to run them again.",
        )


def examine_health_log() -> Iterator[Diagnosis]:
    """Check when the recurring health check last ran, which shows that jobs are run."""
    about = Subject("periodic tasks")
    if not apps.is_installed(HEALTH_LOG):
        yield about.not_configured(f"{HEALTH_LOG} is not installed.")
        return
    age = health_check_age_seconds()
    if age is None or math.isinf(age):
        yield about.warning(
            "The health check has never run.", RUNNER_ADVICE[core_settings.JOB_RUNNER]
        )
    elif age > MAX_HEALTH_AGE:
        yield about.problem(
            f"The health check ran last {describe_age(age)} ago.",
            RUNNER_ADVICE[core_settings.JOB_RUNNER],
        )
    else:
        yield about.ok(f"The health check ran {describe_age(age)} ago.")


def examine_backup() -> Iterator[Diagnosis]:
    """Check the age of the newest backup, if ``BACKUP_FILE`` is set."""
    about, age = Subject("back-up"), backup_age_seconds()
    if age is None:
        yield about.not_configured(
            "The age of the newest back-up is not known.",
            "Have each back-up write a file, and name it in MYOMETRICS['BACKUP_FILE'].",
        )
    elif age > MAX_BACKUP_AGE:
        found = "There is none" if math.isinf(age) else f"The newest is {describe_age(age)} old"
        yield about.problem(f"{found}.", "Check the job that backs up the database.")
    else:
        yield about.ok(f"The newest is {describe_age(age)} old.")


def examine_rate_limits() -> Iterator[Diagnosis]:
    """Check that processes share the rate-limit counts, and that the storage is reachable."""
    about, uri = Subject("rate limits"), storage_uri()
    scheme, processes = uri.partition(":")[0], os.environ.get("WEB_CONCURRENCY", "")
    if scheme == "memory" and processes == "1":
        yield about.ok("Counted in the memory of the one web process.")
    elif scheme == "memory":
        count = f"{processes} processes multiply" if processes else "each process multiplies"
        yield about.problem_in_production(
            f"Counted in the memory of each process: {count} the rates.",
            "Set MYOMETRICS['RATE_LIMIT_STORAGE'], or install myometrics_core.rate_limits.",
        )
    elif storage_for(uri).check():
        yield about.ok(f"Shared by all processes ({scheme}).")
    else:
        yield about.problem(
            f"The storage ({scheme}) can't be reached; the policy is "
            f"'{core_settings.RATE_LIMIT_WHEN_UNAVAILABLE}'.",
            "Check that it runs, and MYOMETRICS['RATE_LIMIT_STORAGE'].",
        )


def examine_caches() -> Iterator[Diagnosis]:
    """Check caches for pickles and missing passwords, and whether processes share sessions."""
    sessions = Subject("sessions")
    problems = []
    for alias, options in settings.CACHES.items():
        about = Subject(f"cache {alias}")
        if is_pickled(options):
            text = "Values are pickles: write access to its server runs code here."
            problems.append(about.warning(text, PICKLES_HINT))
        location = options.get("LOCATION") or ""
        urls = [location] if isinstance(location, str) else location
        is_redis = "redis" in str(options.get("BACKEND", "")).lower()
        if is_redis and any(_is_open(str(url)) for url in urls):
            text = "Redis on another machine is used without a password."
            problems.append(about.warning(text, "Give it one."))
    ok = Subject("caches").ok("None unpickles what is read from a server.")
    yield from problems or [ok]
    engine = str(settings.SESSION_ENGINE)
    session_cache = settings.CACHES.get(settings.SESSION_CACHE_ALIAS, {})
    if engine.endswith(".cache") and "locmem" in str(session_cache.get("BACKEND", "")):
        yield sessions.problem_in_production(
            "Kept in the memory of each process: other processes can't read them.",
            "Set SESSION_ENGINE to the database's, or use a shared cache.",
        )
    else:
        yield sessions.ok(f"Kept by {engine.rpartition('.')[2]}.")


def _is_open(url: str) -> bool:
    if not is_redis_url(url) or url.startswith("unix:"):
        return False
    options = redis_pool(url).connection_kwargs
    # The password may be a query parameter. A Sentinel URL does not contain the Redis host.
    is_local = str(options.get("host", "")) in LOCAL_HOSTS and not url.startswith("sentinel:")
    return not options.get("password") and not is_local


def examine_middleware() -> Iterator[Diagnosis]:
    """Check the position of the access log, and Django's per-site cache."""
    access_log = Subject("access log")
    per_site_cache = Subject("per-site cache")
    names = list(settings.MIDDLEWARE)
    if ACCESS_LOG not in names:
        yield access_log.not_configured("AccessLogMiddleware is not in MIDDLEWARE.")
    elif names[0] != ACCESS_LOG:
        yield access_log.warning(
            "AccessLogMiddleware is not first: responses of earlier middleware are not logged.",
            "Put it first in MIDDLEWARE.",
        )
    else:
        yield access_log.ok("AccessLogMiddleware is first in MIDDLEWARE.")
    if not any(name.endswith(CACHE_MIDDLEWARE) for name in names):
        yield per_site_cache.ok("No cache middleware in MIDDLEWARE.")
        return
    from ..api.views import ApiView  # noqa: PLC0415  (DRF reads settings when it is imported)

    response = ApiView.as_view()(RequestFactory().get("/"))
    if "private" in response.headers.get("Cache-Control", ""):
        yield per_site_cache.ok("In MIDDLEWARE; it does not cache API responses.")
    else:
        yield per_site_cache.problem(
            "In MIDDLEWARE, and it may send one user's response to another.",
            "Take the cache middleware out of MIDDLEWARE.",
        )


def examine_proxies() -> Iterator[Diagnosis]:
    """Check which proxies may set the client's address."""
    about, trusted = Subject("proxies"), list(core_settings.TRUSTED_PROXIES)
    header = core_settings.CLIENT_ADDRESS_HEADER
    if any(_is_every_address(network) for network in trusted):
        yield about.problem(
            f"Every peer is a trusted proxy: a client chooses its address in {header}.",
            "Name the networks of your proxies alone in MYOMETRICS['TRUSTED_PROXIES'].",
        )
    elif trusted:
        yield about.ok(f"{len(trusted)} trusted networks; {header} counts.")
    elif getattr(settings, "SECURE_PROXY_SSL_HEADER", None):
        yield about.problem(
            "A proxy ends TLS and is not trusted: all clients have its address and one rate limit.",
            "Name its network in MYOMETRICS['TRUSTED_PROXIES'].",
        )
    else:
        yield about.not_configured(
            "No trusted proxy: the peer is the client.",
            "Behind a proxy, name its network in MYOMETRICS['TRUSTED_PROXIES'].",
        )
    if os.environ.get("FORWARDED_ALLOW_IPS"):
        yield Subject("forwarded addresses").warning(
            "FORWARDED_ALLOW_IPS lets the server take the client's address from a header.",
            "Unset it, and name your proxies in MYOMETRICS['TRUSTED_PROXIES'] instead.",
        )


def _is_every_address(network: Any) -> bool:
    try:
        return ipaddress.ip_network(network, strict=False).prefixlen == 0
    except ValueError:
        return False
