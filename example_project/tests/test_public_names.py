"""The public names exist, are documented, and suffice for the packages themselves."""

from __future__ import annotations

import ast
import re
import textwrap
from importlib import import_module

import pytest

from myometrics_testing.commands.documents import between_markers, reference_page
from myometrics_testing.commands.public_names import PUBLIC, public_names
from myometrics_testing.commands.repository import PACKAGES, ROOT

CHANGELOGS = {name: PACKAGES / f"myometrics-{name}" / "CHANGELOG.md" for name in PUBLIC}
OTHERS = [name for name in PUBLIC if name != "core"]
PAGES = sorted({*ROOT.glob("docs/**/*.md"), *PACKAGES.glob("*/README.md"), ROOT / "README.md"})
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LISTED = re.compile(r"^\| `(myometrics_[\w.]+)` \| `(\w+)` \|", re.MULTILINE)
REEXPORTING = {"__init__.py", "admin.py", "models.py"}
REFERENCE = "".join(reference_page(package).read_text() for package in PUBLIC)


def test_documented_public_names_can_be_imported():
    listed = LISTED.findall(REFERENCE)
    assert len(listed) > 100
    for module, name in listed:
        assert hasattr(import_module(module), name), f"{module}.{name}"


def test_documentation_lists_every_public_name():
    listed = set(LISTED.findall(REFERENCE))
    expected = {
        (module, name)
        for package in PUBLIC
        for module, names in public_names(package).items()
        for name in names
    }
    assert listed == expected


@pytest.mark.parametrize("package", PUBLIC)
def test_changelog_names_every_public_module(package):
    head = CHANGELOGS[package].read_text().split("\n## ")[0]
    for module in PUBLIC[package]:
        assert re.search(rf"`{module}[`.]", head), module


@pytest.mark.parametrize("package", PUBLIC)
def test_internal_modules_do_not_declare_public_names(package):
    source = PACKAGES / f"myometrics-{package}" / "src" / f"myometrics_{package}"
    for path in source.rglob("*.py"):
        module = ".".join(path.relative_to(source).with_suffix("").parts)
        if path.name not in REEXPORTING and module not in PUBLIC[package]:
            assert "__all__" not in path.read_text(), module


@pytest.mark.parametrize("package", OTHERS)
def test_packages_import_public_names_of_core_only(package):
    public = public_names("core")
    for path in (PACKAGES / f"myometrics-{package}" / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                "myometrics_core"
            ):
                for alias in node.names:
                    assert alias.name in public.get(node.module, []), f"{path}: {alias.name}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_documentation_imports_public_names_only(path):
    public = {
        module: names for package in PUBLIC for module, names in public_names(package).items()
    }
    for block in PYTHON.findall(path.read_text()):
        for node in ast.walk(ast.parse(textwrap.dedent(block))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("myometrics_"):
                for name in node.names:
                    is_module = f"{node.module}.{name.name}" in public
                    assert is_module or name.name in public[node.module], (
                        f"{node.module}, {name.name}"
                    )


def test_part_without_markers_is_an_error():
    with pytest.raises(ValueError, match="'settings'"):
        between_markers("# A README\n", "settings", "| key |")
