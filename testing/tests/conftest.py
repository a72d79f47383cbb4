from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import pytest
from environments import build_wheels, make_environment, make_library

pytest_plugins = ["pytester"]


def pytest_addoption(parser):
    parser.getgroup("myometrics").addoption(
        "--containers", action="store_true", help="run the tests that build images, and no others"
    )


def pytest_configure(config):
    line = "containers: builds images, in minutes: `dev test --containers` alone runs it"
    config.addinivalue_line("markers", line)


def pytest_collection_modifyitems(config, items):
    """Leave out the tests that build images, or with ``--containers`` all others."""
    wanted = config.getoption("--containers")
    kept = [item for item in items if bool(item.get_closest_marker("containers")) is wanted]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


@pytest.fixture
def temporary_folder():
    """An empty folder that any user can reach; pytest's own is closed to PostgreSQL's user."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    """A folder with the wheels of all packages as they are now."""
    folder = tmp_path_factory.mktemp("wheels")
    build_wheels(folder)
    return folder


@pytest.fixture(scope="session")
def environment_of(wheels, tmp_path_factory):
    """The Python of an environment of a row of the matrix with one package and core."""

    @cache
    def make(row, package):
        folder = tmp_path_factory.mktemp(f"{package}-{row.name}")
        return make_environment(folder, row, wheels, package)

    return make


@pytest.fixture(scope="session")
def host_libraries(tmp_path_factory):
    """A folder with the libraries that a host has chosen; our wheels do not require them."""
    folder = tmp_path_factory.mktemp("host-libraries")
    make_library(folder)
    return folder
