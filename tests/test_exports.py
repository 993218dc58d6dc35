"""What can be imported from the packages themselves."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ["bank", "model", "pipeline.mix"]


def static_imports(package: str) -> dict[str, str]:
    """For each name that a type checker sees the package import, its module."""
    tree = ast.parse((ROOT / package.replace(".", "/") / "__init__.py").read_text())
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module != "typing"]
    return {alias.name: node.module or "" for node in found for alias in node.names if alias.name != "importer"}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_the_names_that_it_lists_and_type_checkers_see_the_same(package):
    program = (
        f"import vlmixer.{package} as package; print(*(getattr(package, name).__module__ for name in package.__all__))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    listed = importlib.import_module(f"vlmixer.{package}").__all__
    assert dict(zip(listed, done.stdout.split(), strict=True)) == static_imports(package)


@pytest.mark.parametrize("package", PACKAGES)
def test_other_names_are_attribute_errors(package):
    with pytest.raises(AttributeError, match=f"module 'vlmixer.{package}' has no attribute 'Nonsense'"):
        _ = importlib.import_module(f"vlmixer.{package}").Nonsense


def test_train_is_the_function_also_where_other_parts_were_imported_first():
    program = "import vlmixer.pipeline.demo.run; from vlmixer.model import train; assert train.__name__ == 'train'"
    subprocess.run([sys.executable, "-c", program], check=True)
