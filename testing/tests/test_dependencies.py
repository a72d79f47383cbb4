"""A package declares exactly what it imports, without relying on indirect dependencies."""

from __future__ import annotations

import ast
import sys
from importlib.metadata import packages_distributions, requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from myometrics_testing.commands.repository import package_folders

PACKAGES = package_folders()
DISTRIBUTIONS = packages_distributions()
COMES_WITH = {"asgiref": "django"}
"""Imported as a part of Django, in whatever version that asks for."""


def imported_modules(source):
    """The modules that importing it imports: what is imported within a function may be absent."""
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Import):
            yield from (name.name.partition(".")[0] for name in statement.names)
        elif isinstance(statement, ast.ImportFrom) and not statement.level:
            yield statement.module.partition(".")[0]


def imported_distributions(package):
    sources = (PACKAGES[package] / "src").rglob("*.py")
    modules = {name for path in sources for name in imported_modules(path.read_text())}
    foreign = modules - sys.stdlib_module_names - {f"myometrics_{package}"}
    names = {canonicalize_name(DISTRIBUTIONS.get(name, [name])[0]) for name in foreign}
    return {COMES_WITH.get(name, name) for name in names}


@pytest.mark.parametrize("package", PACKAGES)
def test_package_declares_exactly_its_imports(package):
    declared = [Requirement(text) for text in requires(f"myometrics-{package}")]
    needed = {canonicalize_name(one.name) for one in declared if one.marker is None}
    optional = {canonicalize_name(one.name) for one in declared if one.marker is not None}
    # An extra such as myometrics-core[celery] brings Celery.
    optional |= {extra for one in declared for extra in one.extras}

    imported = imported_distributions(package)

    assert imported - (optional - needed) == needed
