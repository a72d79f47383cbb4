"""Settings of the measured site, with checkpoints.

Key and tiles of the checkpoints are in ``BENCHMARK_FOLDER``.
"""

import os
import tempfile
from pathlib import Path

from benchmarks.audit.site.settings import *  # noqa: F403
from benchmarks.audit.site.settings import INSTALLED_APPS, MYOMETRICS_AUDIT

FOLDER = Path(os.environ.get("BENCHMARK_FOLDER", f"{tempfile.gettempdir()}/myometrics-benchmark"))
CHECKPOINT_KEY_FILE = FOLDER / "checkpoint-key"
CHECKPOINT_FOLDER = FOLDER / "checkpoints"

INSTALLED_APPS = [*INSTALLED_APPS, "myometrics_audit.checkpoints"]
MYOMETRICS_AUDIT = {
    **MYOMETRICS_AUDIT,
    "CHECKPOINT_KEY_FILE": CHECKPOINT_KEY_FILE,
    "CHECKPOINT_STORAGE": "checkpoints",
}
STORAGES = {
    "checkpoints": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": CHECKPOINT_FOLDER},
    },
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
