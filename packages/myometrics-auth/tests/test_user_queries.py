"""Lookups of users by address, and bulk writes of users."""

from __future__ import annotations

import json

import pytest
from asgiref.sync import async_to_sync
from conftest import PASSWORD
from django.contrib.auth import authenticate, get_user_model
from django.core.exceptions import FieldError
from django.core.management import call_command
from django.db.models import F, Value
from django.db.models.functions import Concat, Lower

from myometrics_auth.models import Session
from myometrics_core.users import canonical_email

pytestmark = pytest.mark.django_db

SPELLINGS = ["Jane.Doe@Clinic.example", " jane.doe@CLINIC.EXAMPLE", "jane.doe＠clinic.example"]


@pytest.fixture
def users():
    return get_user_model().objects


@pytest.fixture
def jane(make_user):
    return make_user("jane.doe@clinic.example")


def columns(user):
    """What the database holds of a user's address."""
    rows = get_user_model().objects.filter(pk=user.pk)
    return rows.values_list("email", "email_canonical", "search_text").get()


def expected(email, first_name="Jane", last_name="Smith"):
    return (email, email, f"{first_name} {last_name} {email}".lower())


@pytest.mark.parametrize("email", SPELLINGS)
def test_lookups_find_every_spelling_of_an_address(users, jane, email):
    assert users.get(email=email) == jane
    assert users.get(email__iexact=email) == jane
    assert users.get(email__in=["other@clinic.example", email]) == jane
    assert users.get(email_canonical=email) == jane
    assert not users.exclude(email=email).exists()
    assert users.get_or_create(email=email) == (jane, False)
    assert users.update_or_create({"first_name": "J"}, email=email) == (jane, False)
    assert users.get_by_natural_key(email) == jane


@pytest.mark.parametrize("email", SPELLINGS)
def test_async_lookups_find_every_spelling_of_an_address(users, jane, email):
    async def found():
        return [
            await users.aget(email=email),
            (await users.aget_or_create(email=email))[0],
            (await users.aupdate_or_create({"first_name": "J"}, email=email))[0],
        ]

    assert async_to_sync(found)() == [jane, jane, jane]


def test_lookups_across_relations_fold_the_address(jane, sign_in):
    sign_in(jane)
    assert Session.objects.filter(user__email="JANE.DOE@clinic.example").count() == 1


def test_an_international_domain_is_found_in_both_forms(users, make_user):
    user = make_user("ada@müller.example")
    for email in ("Ada@MÜLLER.example", "ada@xn--mller-kva.example"):
        assert users.get(email=email) == users.get(email__iexact=email) == user


@pytest.mark.parametrize(
    "email", ["é@ΟΔΟΣ.example", "é@ﾉϹ.example", "é@οδός.example", "é@straße.example", "ΣΟΦΟΣ@x"]
)
def test_what_create_user_stores_is_found_by_its_own_address(users, email):
    user = users.create_user(email)
    user.refresh_from_db()
    for spelling in (email, user.email, user.email_canonical):
        assert users.get(email_canonical=spelling) == user
        assert users.get_by_natural_key(spelling) == user
    assert users.get(email=email) == users.get(email=user.email) == user


@pytest.mark.parametrize("email", ["a@T\u202f\u200b", "a@\u200b", "\u00b4a@\u00b4x.example"])
def test_folding_an_address_again_changes_nothing(email):
    assert canonical_email(canonical_email(email)) == canonical_email(email)


def test_remote_user_is_found_in_every_spelling(settings, jane):
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.RemoteUserBackend"]
    assert authenticate(None, remote_user="Jane.Doe@Clinic.example") == jane


def test_create_user_stores_what_lookups_find(users):
    user, created = users.get_or_create(email="New@Clinic.example")
    assert (created, users.get(email="NEW@clinic.example")) == (True, user)


def test_bulk_update_moves_all_columns_of_an_address(users, jane):
    jane.email = "Other@Clinic.example"
    assert users.bulk_update([jane], ["email"]) == 1
    assert columns(jane) == expected("other@clinic.example")
    assert authenticate(None, username="jane.doe@clinic.example", password=PASSWORD) is None
    assert authenticate(None, username="Other@clinic.example", password=PASSWORD) == jane


def test_async_bulk_update_moves_all_columns_of_an_address(users, jane):
    jane.email = "Other@Clinic.example"

    async def update():
        return await users.abulk_update([jane], ["email"])

    assert async_to_sync(update)() == 1
    assert columns(jane) == expected("other@clinic.example")


def test_update_moves_all_columns_of_an_address(users, jane):
    assert users.filter(pk=jane.pk).update(email="Other@Clinic.example") == 1
    assert columns(jane) == expected("other@clinic.example")


def test_async_update_moves_all_columns_of_an_address(users, jane):
    async def update():
        return await users.filter(pk=jane.pk).aupdate(email="Other@Clinic.example")

    assert async_to_sync(update)() == 1
    assert columns(jane) == expected("other@clinic.example")


def test_update_of_many_names_moves_what_is_searched(users, make_user):
    made = [make_user(last_name=f"Smith{number}") for number in range(3)]
    assert users.filter(first_name="Jane").update(first_name="Zoë", clinic_name="X") == 3
    for number, user in enumerate(made):
        assert columns(user) == expected(user.email, "Zoë", f"Smith{number}")


def test_update_of_other_columns_takes_one_query(users, jane, django_assert_num_queries):
    with django_assert_num_queries(1):
        users.filter(pk=jane.pk).update(clinic_name="X", last_login=None)


@pytest.mark.parametrize(
    "values",
    [
        {"email": Concat(Value("x"), "email")},
        {"email": Lower("email")},
        {"first_name": F("last_name")},
    ],
)
def test_update_by_an_expression_is_refused(users, jane, values):
    before = columns(jane)
    with pytest.raises(FieldError, match="can't be updated by an expression"):
        users.update(**values)
    assert columns(jane) == before


@pytest.mark.parametrize("name", ["email", "first_name"])
def test_saving_or_bulk_updating_an_expression_is_refused(users, jane, name):
    setattr(jane, name, Lower(name))
    with pytest.raises(FieldError, match="must be text"):
        users.bulk_update([jane], [name])
    with pytest.raises(FieldError, match="must be text"):
        jane.save()


@pytest.mark.parametrize(
    ("unique_field", "changed"),
    [("id", "email"), ("email", "first_name")],
)
def test_upsert_moves_all_columns_of_an_address(users, jane, unique_field, changed):
    row = {"id": jane.pk, "email": "Jane.Doe@Clinic.example", "first_name": "Janet"}
    if changed == "email":
        row["email"] = "Other@Clinic.example"
    users.bulk_create(
        [users.model(**row)],
        update_conflicts=True,
        unique_fields=[unique_field],
        update_fields=[changed],
    )
    if changed == "email":
        assert columns(jane) == expected("other@clinic.example")
    else:
        assert columns(jane) == expected("jane.doe@clinic.example", "Janet")


def test_upsert_of_a_role_is_refused(users, jane):
    with pytest.raises(FieldError, match="role"):
        users.bulk_create(
            [jane], update_conflicts=True, unique_fields=["id"], update_fields=["role"]
        )


def test_saving_a_partly_loaded_user_moves_all_columns_of_an_address(users, jane):
    user = users.only("email").get(pk=jane.pk)
    user.email = "Other@Clinic.example"
    user.save()
    assert columns(jane) == expected("other@clinic.example")


def test_a_fixture_without_derived_columns_gets_them(users, tmp_path):
    fields = {"email": "Jane@Clinic.example", "first_name": "Jane", "password": "!"}
    path = tmp_path / "users.json"
    path.write_text(json.dumps([{"model": "myometrics_auth.user", "pk": 1, "fields": fields}]))
    call_command("loaddata", str(path), verbosity=0)
    assert columns(users.get()) == ("jane@clinic.example",) * 2 + ("jane  jane@clinic.example",)
