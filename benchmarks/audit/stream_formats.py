"""Messages per second of each stream format on one core, without a database.

    python -m benchmarks.audit.stream_formats [--entries 5000] [--repeat 5]

Prints the median of the repetitions, and the size of a typical message.
"""

from __future__ import annotations

import argparse
import statistics
import time
from datetime import datetime, timedelta, timezone

import django
from django.conf import settings

APPS = ["django.contrib.contenttypes", "django.contrib.auth", "myometrics_core", "myometrics_audit"]
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0"
ACTIONS = ("patient_viewed", "patient_updated", "login_succeeded", "login_failed", "data_exported")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=5000)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    settings.configure(INSTALLED_APPS=APPS, USE_TZ=True, SECRET_KEY="only-for-benchmarks")
    django.setup()

    from myometrics_audit.models import AuditLog
    from myometrics_audit.streams.formats import FORMATS, Source

    start = datetime(2025, 8, 19, tzinfo=timezone.utc)
    entries = [
        AuditLog(
            pk=number,
            user_id=number % 1000,
            action=ACTIONS[number % len(ACTIONS)],
            resource_type="clinic.patient",
            resource_id=str(number),
            timestamp=start + timedelta(milliseconds=number),
            ip_address=f"10.0.0.{number % 250}",
            user_agent=AGENT,
            details={"fields": {"name": ["Müller", "Meyer"], "ward": [1, number]}},
            origin="server",
            data_subject=f"P-{number % 5000}",
            purpose="TREAT",
            legal_basis="GDPR 9(2)(h)",
        )
        for number in range(1, options.entries + 1)
    ]
    source = Source("app1.clinic.example", "portal", "Clinic Nord", "4711")
    for name, render in FORMATS.items():
        rates = []
        for _ in range(options.repeat):
            began = time.process_time()
            size = sum(len(render(entry, source)) for entry in entries)
            rates.append(len(entries) / (time.process_time() - began))
        print(f"{name:8} {statistics.median(rates):8,.0f} messages/s {size / len(entries):6,.0f} B")


if __name__ == "__main__":
    main()
