"""Text columns that were added after a release."""

import pytest
from django.db import connection, models
from django.forms import modelform_factory
from django.test.utils import isolate_apps

from myometrics_auth.model_fields import AddedTextField


@pytest.fixture
def badge(transactional_db):
    """A model with an added column, and its table."""
    with isolate_apps("myometrics_auth"):

        class Badge(models.Model):
            text = AddedTextField("text", max_length=5)

            class Meta:
                app_label = "myometrics_auth"

    with connection.schema_editor() as editor:
        editor.create_model(Badge)
    yield Badge
    with connection.schema_editor() as editor:
        editor.delete_model(Badge)


def test_null_of_the_previous_release_reads_as_empty_text(badge):
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {badge._meta.db_table} (id) VALUES (1)")
    assert badge.objects.get().text == ""
    assert list(badge.objects.values_list("text", flat=True)) == [""]


@pytest.mark.parametrize("typed", ["", "   "])
def test_text_that_is_cleared_in_a_form_is_empty(badge, typed):
    row = badge.objects.create(text="12345")
    form = modelform_factory(badge, fields=["text"])({"text": typed}, instance=row)
    assert form.save().text == ""
    assert badge.objects.get().text == ""


def test_field_deconstructs_without_implied_options():
    _, path, names, options = AddedTextField("licence", max_length=40).deconstruct()
    assert path == "myometrics_auth.model_fields.AddedTextField"
    assert (names, options) == ([], {"verbose_name": "licence", "max_length": 40})
    made = AddedTextField(*names, **options)
    assert (made.null, made.blank, made.default) == (True, True, "")
