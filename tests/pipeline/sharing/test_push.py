"""`vlmixer push` against a Hub on loopback: what is uploaded, what is never, and what is refused."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from tests.model.runs import settings
from tests.model.world import World, write_shards
from tests.pipeline.sharing.fake_hub import TOKEN, hub_on_loopback

from vlmixer.artifacts import manifest
from vlmixer.artifacts.dataset_cards import LICENCE_OPEN
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.lock import locked
from vlmixer.bank import PatchBank, write_webdataset
from vlmixer.model.training import train
from vlmixer.pipeline.sharing.hub import push
from vlmixer.pipeline.sharing.shareable import shareable

ROOT = Path(__file__).parents[3]


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # its store cannot be stood in for
    with hub_on_loopback() as made:
        yield made


@pytest.fixture
def out(small_run, tmp_path):
    """A copy of a finished run of the pipeline."""
    return Path(shutil.copytree(small_run.folder / "out", tmp_path / "out"))


def share(hub, folder, repo="me/mixed", *, public=False, replace=False, token=TOKEN):
    with shareable(str(folder), public=public) as found:
        api = HfApi(endpoint=hub.endpoint, token=token)
        return push(found, repo, public=public, replace=replace, api=api)


def listed(folder):
    beside = {name for name in ("README.md", "croissant.json") if Path(folder, name).exists()}
    return {manifest.NAME, *beside, *(output.name for output in manifest.read(str(folder)).outputs)}


def contents_of(folder, names):
    return {name: Path(folder, name).read_bytes() for name in names}


def test_shards_are_a_private_dataset_with_all_their_files(hub, out):
    address = share(hub, out / "shards", "mixed")
    assert address.startswith(hub.endpoint)
    assert hub.public == set()
    assert list(hub.repos) == ["datasets/me/mixed"]
    uploaded = hub.repos["datasets/me/mixed"]
    del uploaded[".gitattributes"]
    assert uploaded == contents_of(out / "shards", listed(out / "shards"))
    assert hub.commits == [f"vlmixer: {len(uploaded)} files"]


def test_a_run_is_a_model_without_its_log_lock_and_checkpoints(hub, tmp_path):
    world = World()
    shards = write_shards(str(tmp_path / "shards"), [world.mixed(number) for number in range(9)], per_shard=9)
    run = train(settings(shards, steps=1, tensorboard=True), out=str(tmp_path / "run"))
    share(hub, run, "me/encoder")
    uploaded = hub.repos["models/me/encoder"]
    assert set(uploaded) == {".gitattributes", *listed(run)}
    assert {"config.json", "model.safetensors", "README.md"} <= set(uploaded)
    assert not any(name.startswith(("log", "lock", "checkpoints", "tensorboard")) for name in uploaded)


def test_patches_of_a_query_are_a_dataset(hub, out, tmp_path):
    hits = PatchBank.open(str(out / "bank")).search("dog", k=5)
    write_webdataset(hits, str(tmp_path / "dogs"), per_shard=3)
    (tmp_path / "dogs" / "notes.txt").write_text("of our own")
    share(hub, tmp_path / "dogs")
    names = {"README.md", "sizes.json", "patches-000000.tar", "patches-000001.tar"}
    assert set(hub.repos["datasets/me/mixed"]) == {".gitattributes", *names}

    (tmp_path / "dogs" / "patches-000001.tar").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"patches-000001.tar: unreadable, expected 2"):
        share(hub, tmp_path / "dogs")


def damage(out):
    path = out / "shards" / "mixed-000000.tar"
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def unfinish(out):
    (out / "shards" / "manifest.json").unlink()


@pytest.mark.parametrize(
    ("change", "folder", "error", "said"),
    [
        (damage, "shards", UserError, "not sound: .*mixed-000000.tar: its bytes changed"),
        (unfinish, "shards", CallError, "not what can be shared: finished shards"),
        (lambda out: None, "", CallError, "Did you mean .*/shards"),
        (lambda out: None, "bank", CallError, "not what can be shared"),
        (lambda out: (out / "shards" / "README.md").unlink(), "shards", UserError, "needs a card"),
        (lambda out: os.truncate(out / "shards" / "README.md", 1 << 40), "shards", UserError, "more than a card has"),
    ],
)
def test_what_is_not_sound_finished_and_carded_is_not_shared(hub, out, change, folder, error, said):
    change(out)
    with pytest.raises(error, match=said):
        share(hub, out / folder)
    assert hub.repos == {}


def test_a_folder_in_use_is_not_shared(hub, out):
    with locked(str(out / "logs")), pytest.raises(UserError, match="another run is using this folder"):
        share(hub, out / "shards")
    assert hub.repos == {}


def test_everybody_sees_only_what_names_its_licences(hub, out):
    card = out / "shards" / "README.md"
    with pytest.raises(UserError, match=r"README.md: says .*leave out --public"):
        share(hub, out / "shards", public=True)
    assert LICENCE_OPEN in card.read_text()
    card.write_text(card.read_text().replace(LICENCE_OPEN, "Sentences and photos: CC0."))
    share(hub, out / "shards", public=True)
    assert hub.public == {"datasets/me/mixed"}
    assert b"CC0" in hub.repos["datasets/me/mixed"]["README.md"]
    with pytest.raises(CallError, match=r"me/mixed: is public. Give --public"):
        share(hub, out / "shards", replace=True)


def test_a_repository_with_files_is_replaced_only_if_asked(hub, out):
    hub.repos["datasets/me/mixed"] = {".gitattributes": b"", "mixed-000099.tar": b"of before", "README.md": b"-"}
    before = dict(hub.repos["datasets/me/mixed"])
    with pytest.raises(CallError, match=r"already has 2 files, such as README.md. Give --replace"):
        share(hub, out / "shards")
    assert hub.repos["datasets/me/mixed"] == before
    share(hub, out / "shards", replace=True)
    assert set(hub.repos["datasets/me/mixed"]) == {".gitattributes", *listed(out / "shards")}


def test_an_upload_that_broke_off_leaves_the_repository_as_it_was(hub, out):
    hub.full = True
    with pytest.raises(UserError, match=r"me/mixed: the upload broke off .*Repeat the command"):
        share(hub, out / "shards")
    assert set(hub.repos["datasets/me/mixed"]) == {".gitattributes"}
    assert hub.commits == []
    hub.full = False
    share(hub, out / "shards")
    assert len(hub.commits) == 1


def test_without_a_token_or_with_a_wrong_one(hub, out):
    with pytest.raises(UserError, match=r"does not let you write there .*hf auth login"):
        share(hub, out / "shards", token="hf_wrong")
    with pytest.raises(CallError, match="not the name of a repository"):
        share(hub, out / "shards", "a/b/c")


def test_a_hub_that_does_not_answer_is_one_message(hub, out):
    hub.endpoint = "http://127.0.0.1:9"  # nobody listens there
    with pytest.raises(UserError, match=r"me/mixed: the upload broke off \(.*refused.*\). Repeat the command"):
        share(hub, out / "shards")


def test_the_command(hub, out, tmp_path):
    """As a user calls it; the token comes from the environment alone."""

    def call(*arguments, **more):
        environment = os.environ | {"HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path)}
        environment.pop("HF_HUB_OFFLINE", None)
        return subprocess.run(
            [sys.executable, "-m", "vlmixer", "push", str(out / "shards"), "me/mixed", *arguments],
            cwd=ROOT, env=environment | {"PYTHONPATH": str(ROOT / "src")} | more, capture_output=True, text=True,
        )  # fmt: skip

    tried = call("--dry-run")
    assert tried.returncode == 0, tried.stderr
    assert tried.stdout.splitlines()[:-1] == sorted(listed(out / "shards"))
    assert hub.repos == {}
    refused = call()
    assert refused.returncode == 1
    assert "hf auth login" in refused.stderr
    done = call(HF_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert f"{hub.endpoint}/datasets/me/mixed/commit/" in done.stdout
    assert set(hub.repos["datasets/me/mixed"]) == {".gitattributes", *listed(out / "shards")}
