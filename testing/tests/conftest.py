import tempfile
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture
def temporary_folder():
    """An empty folder that any user can reach; pytest's own is closed to PostgreSQL's user."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
