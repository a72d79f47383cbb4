"""A whole visit to a site whose user model is its own; run in a process of its own.

Prints what the API answered, as JSON.
"""

from __future__ import annotations

import json
import sys

import django
from django.conf import settings

from myometrics_testing.settings import package_settings

settings.configure(
    **package_settings(
        apps=["hosts_people", "myometrics_auth", "myometrics_auth.federation"],
        urls="auth_test_urls",
        AUTH_USER_MODEL="hosts_people.Person",
        REST_FRAMEWORK={
            "DEFAULT_AUTHENTICATION_CLASSES": [
                "myometrics_auth.authentication.SessionTokenAuthentication"
            ]
        },
    )
)
django.setup()


def described(document):
    """What the API's description says of a user's id: in an answer, and in a path."""
    in_answer = document["components"]["schemas"]["Profile"]["properties"]["id"]
    parameters = document["paths"]["/api/users/{user_id}/"]["get"]["parameters"]
    (in_path,) = [given["schema"] for given in parameters if given["name"] == "user_id"]
    return [in_answer, in_path]


def visit():
    from django.contrib.auth import get_user_model
    from django.core.checks import run_checks
    from django.core.management import call_command
    from django.test import Client
    from drf_spectacular.generators import SchemaGenerator
    from rest_framework.test import APIClient

    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
    call_command("migrate", verbosity=0)
    document = SchemaGenerator().get_schema(request=None, public=True)
    client = APIClient()
    credentials = {"email": "p@x.example", "password": "quiet-otter-paddles-42"}
    names = {"firstName": "Pat", "lastName": "Example"}
    registered = client.post("/api/auth/register/", {**credentials, **names}, format="json")
    get_user_model().objects.update(role="admin")
    other = get_user_model().objects.create_user("other@x.example")
    signed_in = client.post("/api/auth/login/", credentials, format="json").json()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {signed_in['access']}")
    path = f"/api/users/{other.pk}/"
    get_user_model().objects.filter(email=credentials["email"]).update(is_staff=True)
    browser = Client()
    form = {"username": credentials["email"].upper(), "password": credentials["password"]}
    pages = [browser.post("/admin/login/", form), browser.get("/admin/")]
    return {
        "registered": registered.status_code,
        "id": signed_in["user"]["id"],
        "key": str(get_user_model().objects.get(email=credentials["email"]).pk),
        "shown": client.get(path).json()["id"] == str(other.pk),
        "number": client.get("/api/users/1/").status_code,
        "changed": client.put(path, {"role": "technician"}, format="json").status_code,
        "deleted": client.delete(path).status_code,
        "exported": client.get("/api/users/me/export/?format=json").status_code,
        "described": described(document),
        "admin": [page.status_code for page in pages],
        "last": client.delete("/api/users/me/").status_code,
        "passkeys": "webauthn" in sys.modules,
        "errors": [message.id for message in run_checks() if message.is_serious()],
    }


if __name__ == "__main__":
    json.dump(visit(), sys.stdout)
