import uuid

import pytest
from tests.artifacts.test_manifest import small

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.snapshot import Snapshot


@pytest.mark.parametrize("place", ["local", "memory"])
def test_a_folder_is_the_one_that_was_opened_until_its_manifest_changes(tmp_path, place):
    folder = str(tmp_path) if place == "local" else f"memory://{uuid.uuid4().hex}"
    manifest.publish(folder, small())
    snapshot = Snapshot(folder, manifest.read(folder))
    snapshot.check()
    manifest.publish(folder, small())
    snapshot.check()
    manifest.publish(folder, small(plan_hash="p1"))
    with pytest.raises(UserError, match=r"was replaced after it was opened\. Open it again when it is complete"):
        snapshot.check()
    files.remove(f"{folder}/{manifest.NAME}")
    with pytest.raises(UserError, match="was replaced"):
        snapshot.check()
