import pytest
from tests.bank.numbered import write

from vlmixer.bank.store import PatchBank


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("bank"))
    write(path)
    return path


@pytest.fixture
def bank(folder):
    return PatchBank.open(folder)
