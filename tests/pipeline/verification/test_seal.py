"""`vlmixer manifest` and `vlmixer verify --signed`: a hash that is kept elsewhere shows any later change."""

import shutil

import numpy as np
import pytest
from tests.pipeline.verification.rewriting import reseal

from vlmixer.artifacts import manifest
from vlmixer.pipeline.commands.main import main


@pytest.fixture
def kept(out, tmp_path, capsys):
    """The file with the hash of `out`."""
    assert main(["manifest", str(out)]) == 0
    path = tmp_path / "kept"
    path.write_text(capsys.readouterr().out)
    return path


def test_what_is_as_it_was(out, kept, capsys):
    assert main(["verify", str(out), "--bytes", "--signed", str(kept)]) == 0
    kept.write_bytes(b"\xef\xbb\xbf" + kept.read_bytes().replace(b"\n", b"\r\n"))  # as an editor of Windows may save it
    assert main(["verify", str(out), "--bytes", "--signed", str(kept)]) == 0
    assert capsys.readouterr().out.startswith("sound: ")


def test_a_change_whose_manifests_were_written_anew(out, kept, capsys):
    features = np.load(out / "bank" / "features.npy")
    features[3, 0] += 1
    np.save(out / "bank" / "features.npy", features)
    reseal(out)
    assert main(["verify", str(out), "--bytes"]) == 0
    capsys.readouterr()
    assert main(["verify", str(out), "--bytes", "--signed", str(kept)]) == 1
    assert f"the one that was kept is {kept.read_text().strip()}" in capsys.readouterr().out


def test_a_bank_alone(out, tmp_path, capsys):
    assert main(["manifest", str(out / "bank")]) == 0
    printed = capsys.readouterr().out
    assert printed == manifest.read(str(out / "bank")).content_hash + "\n"
    (tmp_path / "kept").write_text(f"{printed.strip()}  bank\n")
    assert main(["verify", str(out / "bank"), "--bytes", "--signed", str(tmp_path / "kept")]) == 0


def test_a_folder_that_lacks_a_stage_or_is_none_has_no_hash(out, capsys):
    (out / "bank" / "manifest.json").unlink()
    assert main(["manifest", str(out)]) == 1
    shutil.rmtree(out / "bank")
    assert main(["manifest", str(out)]) == 1
    said = capsys.readouterr()
    assert "bank: missing" in said.err
    assert said.out == ""
    assert main(["manifest", str(out / "logs")]) == 2


@pytest.mark.parametrize("text", ["", "nothing", "0" * 63, "g" * 64])
def test_a_file_without_a_hash(out, tmp_path, capsys, text):
    (tmp_path / "kept").write_text(text)
    assert main(["verify", str(out), "--signed", str(tmp_path / "kept")]) == 2
    assert "64 hexadecimal digits" in capsys.readouterr().err


def test_no_file_with_a_hash(out, tmp_path, capsys):
    assert main(["verify", str(out), "--signed", str(tmp_path / "none")]) == 2
    assert "cannot be read" in capsys.readouterr().err
