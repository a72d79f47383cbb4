"""The examination of the exports' storage."""

from myometrics_notifications.doctor import examine_exports


def states():
    return {found.name: found.state for found in examine_exports()}


def test_unwritable_export_folder_is_a_problem(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "not yet" / "there"
    assert states() == {"export storage": "ok"}
    (tmp_path / "file").write_text("")
    settings.MEDIA_ROOT = tmp_path / "file" / "below"
    assert states() == {"export storage": "problem"}


def test_storage_that_is_not_a_folder_is_not_examined(settings):
    memory = {"BACKEND": "django.core.files.storage.base.Storage"}
    settings.STORAGES = {**settings.STORAGES, "default": memory}
    assert states() == {"export storage": "ok"}
