"""Settings are read at each access and validated by system checks."""

import pytest
from django.core import checks

from myometrics_core.conf import DOTTED_PATH, Setting, SettingsGroup, core_settings
from myometrics_core.conf.definitions import registered_settings


def problems(settings, value):
    settings.MYOMETRICS = value
    return [(found.id, found.msg) for found in core_settings.check()]


@pytest.mark.parametrize(
    ("value", "number", "words"),
    [
        (["a"], "E001", "must be a dictionary"),
        ({"TRUSTED_PROXY": []}, "E002", "unknown key 'TRUSTED_PROXY'"),
        ({"TRUSTED_PROXIES": "10.0.0.0/8"}, "E003", "must be list or tuple, not str"),
        ({"TRUSTED_PROXIES": ["unix:/run/app.sock"]}, "E003", "'unix:/run/app.sock', which is no"),
        ({"METRICS_NETWORKS": ["unix:"]}, "E003", "'unix:', which is no network"),
        ({"TRUSTED_PROXIES": ["10.0.0.0/99"]}, "E003", "'10.0.0.0/99', which is no network"),
        ({"RATE_LIMITS": {"auth": "often"}}, "E003", "expected such as '5/minute'"),
        ({"RATE_LIMITS": {"login": "5/minute"}}, "E003", "unknown bucket 'login'"),
        ({"RATE_LIMIT_WHEN_UNAVAILABLE": "hope"}, "E003", "must be one of 'local'"),
        ({"IS_ADMINISTRATOR": "no.such.thing"}, "E003", "can't be imported"),
        ({"MAX_BODY_BYTES": True}, "E003", "must be int, not bool"),
        ({"HEALTH_MAX_AGE": 0}, "E003", "must be greater than 0"),
        ({"MICROSERVICE_URL": "localhost:8000"}, "E003", "must be a URL"),
    ],
)
def test_invalid_value_is_an_error_with_an_id(settings, value, number, words):
    ((found, message),) = problems(settings, value)
    assert found == f"myometrics_core.{number}"
    assert words in message


def test_unknown_key_hint_names_similar_key(settings):
    assert problems(settings, {}) == []
    settings.MYOMETRICS = {"TRUSTED_PROXY": []}
    assert core_settings.check()[0].hint == "Did you mean 'TRUSTED_PROXIES'?"


def test_setting_is_read_at_each_access(settings):
    settings.MYOMETRICS = {"MAX_BODY_BYTES": 5}
    assert core_settings.MAX_BODY_BYTES == 5
    settings.MYOMETRICS = {}
    assert core_settings.MAX_BODY_BYTES == 2 * 1024 * 1024


def test_dotted_path_is_imported_at_each_access(settings):
    settings.MYOMETRICS = {"IS_ADMINISTRATOR": "myometrics_core.times.utc_text"}
    assert core_settings.IS_ADMINISTRATOR.__name__ == "utc_text"


def test_every_setting_has_a_description():
    assert core_settings in registered_settings()
    for group in registered_settings():
        for setting in group.declared():
            assert setting.description, setting.name
            assert setting.kind_name


def test_settings_group_of_another_package_works(settings):
    class OtherSettings(SettingsGroup):
        name = "OTHER"
        app = "other"
        WHO = Setting(DOTTED_PATH, "myometrics_core.times.utc_now", "Who.")

    settings.OTHER = {"WHO": "myometrics_core.times.utc_text"}
    assert OtherSettings().WHO.__name__ == "utc_text"
    assert OtherSettings().check() == []


def test_unknown_key_hint_names_renamed_setting(settings):
    class OtherSettings(SettingsGroup):
        name = "OTHER"
        app = "other"
        renamed = {"PATIENCE": "TIMEOUT"}
        TIMEOUT = Setting(int, 5, "Seconds.")

    settings.OTHER = {"PATIENCE": 7}
    (problem,) = OtherSettings().check()
    assert problem.id == "other.E002"
    assert problem.hint == "It is now called 'TIMEOUT'."
    assert OtherSettings().TIMEOUT == 5


def test_counting_in_each_process_is_a_warning(settings):
    settings.DEBUG = False
    settings.MYOMETRICS = {"RATE_LIMIT_STORAGE": "memory://"}
    assert "myometrics_core.W010" in [found.id for found in checks.run_checks()]
    settings.MYOMETRICS = {}
    assert "myometrics_core.W010" not in [found.id for found in checks.run_checks()]


def test_unusable_storage_is_an_error(settings):
    settings.MYOMETRICS = {"RATE_LIMIT_STORAGE": "nowhere://"}
    assert "myometrics_core.E010" in [found.id for found in checks.run_checks()]
