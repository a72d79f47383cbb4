"""The user model. Specification: "User Model"."""

from __future__ import annotations

import pytest
from conftest import PASSWORD
from django.contrib.auth import get_user_model
from django.core.management import call_command

pytestmark = pytest.mark.django_db


def test_addresses_are_stored_lower_case():
    user = get_user_model().objects.create_user("ADA@Clinic.Example", PASSWORD)
    assert user.email == "ada@clinic.example"
    user.refresh_from_db()
    assert user.email == "ada@clinic.example"


def test_an_international_domain_is_known_in_both_its_forms():
    objects = get_user_model().objects
    user = objects.create_user("ada@müller.example")
    assert objects.get_by_natural_key("ADA@xn--mller-kva.example") == user
    assert objects.get_by_natural_key("ada@MÜLLER.example") == user


def test_addresses_are_kept_in_form_in_bulk_too():
    model = get_user_model()
    model.objects.bulk_create([model(email=f"U{number}@X.example") for number in range(3)])
    assert model.objects.get_by_natural_key("u2@x.EXAMPLE").email == "u2@x.example"


def test_the_canonical_address_follows_when_only_the_address_is_saved(doctor):
    doctor.email = "Other@Clinic.example"
    doctor.save(update_fields=["email"])
    assert get_user_model().objects.get_by_natural_key("other@clinic.example") == doctor


def test_a_user_needs_an_address():
    with pytest.raises(ValueError, match="address"):
        get_user_model().objects.create_user("", PASSWORD)


def test_superusers_are_administrators(monkeypatch):
    monkeypatch.setenv("DJANGO_SUPERUSER_EMAIL", "Root@Clinic.example")
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", PASSWORD)
    call_command("createsuperuser", interactive=False, verbosity=0)
    root = get_user_model().objects.get()
    assert (root.email, root.role, root.first_name) == ("root@clinic.example", "admin", "")
    assert root.is_staff
    assert root.is_superuser
    assert root.check_password(PASSWORD)


def test_no_migration_is_missing():
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
