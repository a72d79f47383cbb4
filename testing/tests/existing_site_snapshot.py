"""Prints the checks and responses of an existing site as JSON.

Copied into the site and run there. Arguments are paths of our API.
"""

import gzip
import json
import os
import re
import sys
from datetime import datetime, timezone

import django
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core import checks
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client

CHANGING = {"Age", "Date", "Expires", "Last-Modified", "ETag", "X-Request-ID", "Set-Cookie"}
REQUESTS = [
    ("get", "/own/visits/", {"accept-language": "de"}),
    ("get", "/own/visits/", {"accept-language": "en"}),
    ("get", "/own/visits/", {"accept-language": "de", "accept-encoding": "gzip"}),
    ("get", "/own/missing/", {"accept-language": "de"}),
    ("get", "/own/missing/", {"accept-language": "en"}),
    ("get", "/own/missing/", {"accept": "text/html"}),
    ("get", "/own/page/", {"accept-encoding": "gzip"}),
    ("get", "/own/closed/", {}),
    ("get", "/own/closed/", {"authorization": "Bearer of.ill.tidings"}),
    ("get", "/own/closed/", {"authorization": "Basic bm9ib2R5Om5vdGhpbmc="}),
    ("post", "/own/visits/", {}),
    ("put", "/own/visits/", {}),
    ("get", "/nothing/", {"accept-language": "de"}),
    ("get", "/own/page", {}),
    ("get", "/admin/", {}),
]


def in_environ(headers):
    """``headers`` as Django 4.2 to 6.1 all take them."""
    return {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}


def answer(method, path, headers):
    """The response to a client without cookies, without the varying headers."""
    response = getattr(Client(raise_request_exception=False), method)(path, **in_environ(headers))
    kept = {name: value for name, value in response.items() if name not in CHANGING}
    body = response.content
    if response.get("Content-Encoding") == "gzip":  # Django adds a random number of bytes
        body = gzip.decompress(body)
        kept.pop("Content-Length")
    return [response.status_code, kept, re.sub(r"\w{64}", "(CSRF token)", body.decode())]


os.environ["DJANGO_SETTINGS_MODULE"] = "clinic.settings"
django.setup()
call_command("makemigrations", "people", verbosity=0)
call_command("makemigrations", check_changes=True, dry_run=True, verbosity=0)
call_command("migrate", verbosity=0)
root = get_user_model().objects.filter(email="root@clinic.example").first()
if root is None:
    root = get_user_model().objects.create_superuser("root@clinic.example", "correct-horse")
    visits = apps.get_model("people", "Visit").objects
    visits.create(person=root)
    visits.update(at=datetime(2026, 1, 31, tzinfo=timezone.utc))
found = [[message.id, message.level, message.msg] for message in checks.run_checks()]
call_command("spectacular", validate=True, fail_on_warn=True, file="openapi.yml")
client = Client()
client.force_login(root)
asked = {path: client.get(path).status_code for path in sys.argv[1:]}
cache.clear()
seen = {
    "checks": [message for message in found if not str(message[0]).startswith("myometrics_")],
    "ours": [message for message in found if str(message[0]).startswith("myometrics_")],
    "answers": {str(request): answer(*request) for request in REQUESTS},
    "asked": asked,
}
cache.clear()
print(json.dumps(seen))
