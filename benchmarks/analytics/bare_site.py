"""Settings of the bare views: the example project's, without middleware."""

from config.settings import *  # noqa: F403

ROOT_URLCONF = "benchmarks.analytics.bare_views"
MIDDLEWARE: list[str] = []
MYOMETRICS["JOB_RUNNER"] = "none"  # noqa: F405
