"""The line that installs an extra's packages."""

from importlib import metadata

import pytest

from vlmixer.artifacts.extras import install_command

DECLARED = ["numpy>=1.26", "torch>=2.6; extra == 'a'", 'beam[gcp]<3,>=2; extra == "b"', 'torch>=2.6; extra == "b"']


def test_the_packages_of_the_extras_are_named_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "requires", lambda name: DECLARED)
    assert install_command("a", "b") == "pip install 'torch>=2.6' 'beam[gcp]<3,>=2'"


def test_without_metadata_it_is_the_checkouts_own_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", missing)
    assert install_command("pipeline", "train") == "pip install '.[pipeline,train]'"
