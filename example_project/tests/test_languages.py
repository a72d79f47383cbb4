"""The admin site is translated; the API has one language."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.utils.functional import Promise

pytestmark = pytest.mark.django_db
OURS = [config for config in apps.get_app_configs() if config.name.startswith("myometrics_")]
MODELS = [model for config in OURS for model in config.get_models()]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_every_admin_label_is_translatable(model):
    assert isinstance(model._meta.verbose_name, Promise)
    assert isinstance(model._meta.verbose_name_plural, Promise)
    for field in model._meta.local_fields:
        if not (field.auto_created or _is_hidden(field)):
            assert isinstance(field.verbose_name, Promise), field
            assert isinstance(field.help_text, Promise) or not field.help_text, field


def _is_hidden(field):
    """Whether no page of the admin site shows it."""
    return not field.editable and not isinstance(field.verbose_name, Promise)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", ["Protokoll", "Auswertungen", "Konten", "Benachrichtigungen"]),
        ("myometrics_analytics/dashboard/", ["Erfolgsquote", "Uploads pro Tag", "Anwenden"]),
        ("myometrics_audit/auditlog/", ["Protokolleintr", "Nie geprüft"]),
        ("myometrics_auth/session/", ["Konten", "Sitzung zum Ansehen"]),
    ],
)
def test_german_site_has_german_admin(admin_client, settings, path, words):
    settings.LANGUAGE_CODE = "de"
    page = admin_client.get(f"/admin/{path}", follow=True).content.decode()
    for word in words:
        assert word in page


def test_api_responds_in_site_language(client):
    for language in ("de", "fr-FR,de;q=0.8", "xx"):
        answer = client.get("/api/nothing/", HTTP_ACCEPT_LANGUAGE=language)
        assert answer.json()["detail"] == "There is nothing at this address."
        answer = client.get("/api/auth/user/", HTTP_ACCEPT_LANGUAGE=language)
        assert answer.json()["detail"] == "Authentication credentials were not provided."
