"""Registry of export deliveries."""

import pytest

from myometrics_core.personal_data import (
    deliver_export,
    export_deliveries,
    register_export_delivery,
)
from myometrics_core.personal_data import deliveries as module


@pytest.fixture(autouse=True)
def _registry(monkeypatch):
    monkeypatch.setattr(module, "_deliveries", {})


def test_registered_delivery_accepts_export():
    taken = []

    def by_post(*, user, export_format):
        taken.append((user, export_format))
        return "It is in the post."

    register_export_delivery("post", by_post)
    assert export_deliveries() == ["post"]
    assert deliver_export("post", user="Ada", export_format="csv") == "It is in the post."
    assert taken == [("Ada", "csv")]


def test_unregistered_delivery_is_rejected():
    with pytest.raises(KeyError):
        deliver_export("pigeon", user=None, export_format="csv")
