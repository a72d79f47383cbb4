"""Sets up a new site in one process; prints its state as JSON.

Copied into the site and run by the site's Python. Standard input is code that creates
the users. Any warning of a check, and any missing migration, is an error.
"""

import copy
import importlib
import json
import logging
import os
import sys

os.environ["DJANGO_SETTINGS_MODULE"] = "clinic.settings"

import clinic.settings
import django
from django.conf import settings
from django.core.management import call_command


def host_settings():
    """The host's settings as they are now; Django itself completes DATABASES."""
    names = [name for name in vars(clinic.settings) if name.isupper() and name != "DATABASES"]
    return {name: copy.deepcopy(getattr(settings, name)) for name in names}


def loggers():
    """Level and handlers of the root and of all loggers of ours."""
    ours = sorted(name for name in logging.root.manager.loggerDict if name.startswith("myo"))
    return {
        name: [logging.getLogger(name).level, len(logging.getLogger(name).handlers)]
        for name in ("", *ours)
    }


def celery_settings():
    """The Celery settings of the host's app; empty without an app."""
    if not hasattr(clinic, "celery"):
        return {}
    conf = clinic.celery.app.conf
    return {
        name: conf[name.removeprefix("CELERY_").lower()]
        for name in vars(clinic.settings)
        if name.startswith("CELERY_")
    }


before = host_settings()
django.setup()
if importlib.util.find_spec("people"):
    call_command("makemigrations", "people", verbosity=0)
    importlib.invalidate_caches()
call_command("check", fail_level="WARNING", stdout=sys.stderr)
call_command("makemigrations", check_changes=True, dry_run=True, verbosity=0)
call_command("migrate", verbosity=0)
exec(sys.stdin.read())
seen = {
    "changed": [name for name, value in host_settings().items() if before[name] != value],
    "celery": {
        name: value == getattr(clinic.settings, name) for name, value in celery_settings().items()
    },
    "loggers": loggers(),
}
print(json.dumps(seen))
