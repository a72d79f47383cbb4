"""Gunicorn's configuration: ``gunicorn --config python:config.gunicorn``.

Variables: ``HOST``, ``PORT``, ``WEB_CONCURRENCY`` (processes), ``WEB_THREADS`` (of each),
``WEB_WORKER_CLASS`` (``gthread``, or ``uvicorn_worker.UvicornWorker`` for ASGI),
``WEB_GRACEFUL_TIMEOUT`` and ``WEB_CLIENT_TIMEOUT`` (seconds).
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from config.logs import REQUEST_ID
from myometrics_core.http.request_id import set_request_id

threads = int(os.environ.get("WEB_THREADS") or 4)
worker_class = os.environ.get("WEB_WORKER_CLASS") or "gthread"
is_asgi = "uvicorn" in worker_class
# The same with a deadline for slow clients (WEB_CLIENT_TIMEOUT).
worker_class = {
    "gthread": "config.optional.thread_worker.DeadlineThreadWorker",
    "uvicorn_worker.UvicornWorker": "config.optional.asgi_worker.DeadlineUvicornWorker",
}.get(worker_class, worker_class)
wsgi_app = "config.asgi:application" if is_asgi else "config.wsgi:application"
# An IPv6 address with or without brackets.
host = (os.environ.get("HOST") or "0.0.0.0").strip("[]")  # noqa: S104
bind = f"{f'[{host}]' if ':' in host else host}:{os.environ.get('PORT') or 8001}"
workers = int(os.environ.get("WEB_CONCURRENCY") or 2)
timeout = 60
# Time for running requests; shorter than the platform's own limit.
graceful_timeout = int(os.environ.get("WEB_GRACEFUL_TIMEOUT") or 25)
# The settings determine the client's address and scheme (TRUSTED_PROXIES, BEHIND_TLS_PROXY).
# Gunicorn and uvicorn would trust any peer on this machine or on a Unix socket.
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}
forwarder_headers = ""
keepalive = 5
# The heartbeat file, in memory if possible: the disk may be read-only or slow.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
control_socket_disable = True
# For `--access-logfile -`, which enables it: no query string; the time is the log line's.
access_log_format = '%(h)s "%(m)s %(U)s" %(s)s %(B)s'
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request_id": REQUEST_ID},
    "formatters": {"json": {"()": "config.logs.JsonLogFormatter"}},
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "filters": ["request_id"],
            "formatter": "json",
        }
    },
    "root": {"handlers": [], "level": "WARNING"},
    "loggers": {
        "gunicorn.error": {"handlers": ["console"], "level": "INFO", "propagate": False},
        "gunicorn.access": {"handlers": ["console"], "level": "WARNING", "propagate": False},
    },
}


def _is_set(*names: str) -> bool:
    return any(os.environ.get(name) or os.environ.get(f"{name}_FILE") for name in names)


# One connection per thread, one for each health probe that uses the database (its own, that of
# tables, and that of replicas), and three for the threads that run jobs without a broker.
_probes = 3 if _is_set("REPLICA_URLS") else 2
_runs_jobs = os.environ.get("JOB_RUNNER") == "thread" or not _is_set(
    "REDIS_URL", "CELERY_BROKER_URL"
)
os.environ.setdefault(
    "DATABASE_POOL_SIZE", str(threads * (4 if is_asgi else 1) + _probes + 3 * _runs_jobs)
)
if _is_set("METRICS_TOKEN", "METRICS_NETWORKS"):
    # Shared folder for the Prometheus counters of all processes.
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="metrics-")
    Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).mkdir(parents=True, exist_ok=True)


def on_starting(server: Any) -> None:
    """Enable the access log, and warn if a header would replace the client's address."""
    if server.cfg.accesslog:
        server.log.access_log.setLevel("INFO")
    if server.cfg.forwarded_allow_ips:
        server.log.warning(
            "forwarded_allow_ips lets the server replace the client's address and scheme; leave "
            "it empty and set TRUSTED_PROXIES and BEHIND_TLS_PROXY"
        )


def post_worker_init(worker: Any) -> None:
    """Initialize a process before its first request."""
    from .databases import open_pool  # noqa: PLC0415 (Django is set up by now)

    open_pool()
    # Loaded modules stay: exclude them from garbage collection.
    gc.collect()
    gc.freeze()
    if is_asgi:
        # After its last request, uvicorn sends itself the signal again, for the previous handler.
        # The default one would skip the exit handlers, which write buffers.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


def pre_request(worker: Any, req: Any) -> None:
    """Clear the request id that the thread used before."""
    set_request_id(None)


def post_request(worker: Any, req: Any, environ: Any, resp: Any) -> None:
    """Clear the request id after the access log line."""
    set_request_id(None)


def child_exit(server: Any, worker: Any) -> None:
    """Remove an ended process from the gauges of live processes."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415

        mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
