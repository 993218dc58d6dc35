"""Folders of transformers' models: found without a download, identified by content, and never a program."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tests.pipeline.image.detectors.small_transformers import write_model

from vlmixer.artifacts.details import to_json
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.pipeline.image.detectors.identity import describe_detector
from vlmixer.pipeline.image.detectors.loading import DetectorSpec, is_shipped, load_detector
from vlmixer.pipeline.image.detectors.transformers_folder import find_folder, shown_name, weight_files, weights_hash


@pytest.fixture(scope="module")
def detr(tmp_path_factory) -> Path:
    return write_model("detr", tmp_path_factory.mktemp("models") / "small-detr")


@pytest.fixture
def model(detr, tmp_path) -> Path:
    """A copy, to change."""
    return Path(shutil.copytree(detr, tmp_path / "model"))


def spec(folder: Path | str, weights: str | None = None, **options: object) -> DetectorSpec:
    return DetectorSpec(f"transformers:{folder}", weights, "cpu", 0.0, options)


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_size(folder: Path, **changes: object) -> None:
    path = folder / "preprocessor_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "size": {**settings["size"], **changes}}))


def test_the_identity_is_the_content_and_not_the_place(detr, model):
    first = describe_detector(spec(detr))
    assert first.name == "transformers:small-detr"
    assert first.weights.startswith("sha256:")
    moved = Path(shutil.copytree(detr, model.parent / "elsewhere" / "small-detr"))
    assert describe_detector(spec(moved)) == first
    assert str(detr.parent) not in json.dumps(to_json(first))
    change_config(moved, num_queries=8)
    assert describe_detector(spec(moved)).config != first.config
    assert describe_detector(spec(moved)).weights == first.weights
    state = load_file(moved / "model.safetensors")
    save_file(
        state | {"bbox_predictor.layers.0.bias": state["bbox_predictor.layers.0.bias"] + 1}, moved / "model.safetensors"
    )
    assert describe_detector(spec(moved)).weights != first.weights
    (moved / "README.md").write_text("Other words")
    assert describe_detector(spec(moved)).weights == describe_detector(spec(moved)).weights


def test_weights_in_several_files(detr, model):
    state = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    names = sorted(state)
    halves = {"one.safetensors": names[: len(names) // 2], "two.safetensors": names[len(names) // 2 :]}
    for file, own in halves.items():
        save_file({name: state[name] for name in own}, model / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, own in halves.items() for name in own}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert weight_files(str(model), "key") == ["one.safetensors", "two.safetensors"]
    before = weights_hash(str(model), "key")
    assert load_detector(spec(model)).feature_dim == 16
    shutil.copy(model / "one.safetensors", model / "two.safetensors")
    assert weights_hash(str(model), "key") != before
    (model / "two.safetensors").unlink()
    with pytest.raises(UserError, match=r"index\.json names two\.safetensors, not found"):
        load_detector(spec(model))
    index["weight_map"] = {"a": "../small-detr/model.safetensors"}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"names \.\./small-detr"):
        weight_files(str(model), "key")


def test_a_model_in_the_hubs_cache(detr, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--someone--small"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    shutil.copytree(detr, repository / "snapshots" / ("a" * 40))
    assert Path(find_folder("someone/small", "key")) == repository / "snapshots" / ("a" * 40)
    assert Path(find_folder("someone/small", "key", "a" * 40)).name == "a" * 40
    assert shown_name("someone/small") == "someone/small"
    with pytest.raises(
        CallError, match=r"^key: 'someone/small' is neither .*`hf download someone/small --revision v2` "
    ):
        find_folder("someone/small", "key", "v2")


@pytest.mark.parametrize("name", ["/no/folder", "./none", "~/none", "a/b/c", "gs://bucket/model", ""])
def test_a_folder_that_is_not_there(name):
    with pytest.raises(CallError, match=r"^images\.detector: no such folder on this machine"):
        load_detector(spec(name))


@pytest.mark.parametrize("name", ["no-one/nothing", "nothing-of-this-name", "no one/no?thing"])
def test_a_model_that_is_not_in_the_cache(name):
    with pytest.raises(CallError, match=r"neither a folder nor in the Hugging Face Hub's cache .*`hf download "):
        load_detector(spec(name))
    with pytest.raises(CallError, match="neither a folder nor"):
        describe_detector(spec(name))


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def with_pickles(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def without_some_weights(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    save_file(
        {name: value for name, value in state.items() if "bbox" not in name},
        folder / "model.safetensors",
        {"format": "pt"},
    )


def with_bytes_for_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"hello" * 10_000)


def without_processor(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()


def with_anothers_processor(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text('{"image_processor_type": "ViTImageProcessor"}')


def with_program(folder: Path) -> None:
    """Of an architecture that only the folder's own code knows."""
    change_config(
        folder, model_type="mine", auto_map={"AutoConfig": "evil.Config", "AutoModelForObjectDetection": "evil.Model"}
    )
    (folder / "evil.py").write_text(
        f"import pathlib\npathlib.Path({str(folder / 'RAN')!r}).touch()\nclass Config: pass\n"
    )


def with_adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_weights, r"has no model\.safetensors and no model\.safetensors\.index\.json\.$"),
        (with_pickles, r"It has pytorch_model\.bin, which may hold code; convert it"),
        (without_some_weights, r"lack 6 parameters of DetrForObjectDetection, such as bbox_predictor"),
        (with_bytes_for_weights, r"transformers cannot read .*Error"),
        (without_processor, r"has no preprocessor_config\.json"),
        (with_anothers_processor, r"is a ViTImageProcessor, which makes no boxes"),
        (with_program, r"transformers cannot read "),
        (with_adapter, r"has an adapter"),
        (lambda folder: (folder / "config.json").unlink(), r"config\.json is not readable"),
        (lambda folder: (folder / "config.json").write_text("[1]"), r"is not readable: expected an object"),
        (lambda folder: (folder / "config.json").write_text("{" * 9), r"config\.json is not readable"),
        (lambda folder: change_config(folder, quantization_config={"quant_method": "x"}), "quantized"),
        (lambda folder: change_config(folder, backbone="someone/else"), r"elsewhere \(backbone: 'someone/else'\)"),
        (lambda folder: change_config(folder, attn_implementation="someone/kernel"), "something elsewhere"),
        (lambda folder: change_config(folder, backbone_config={"attn_implementation": "a/b"}), "something elsewhere"),
        (lambda folder: change_config(folder, decoder_layers=10**9), "decoder_layers is 1000000000, expected at most"),
        (lambda folder: change_config(folder, more="x" * 4_000_000), "is not readable: larger than 4,000,000 bytes"),
        (lambda folder: change_size(folder, shortest_edge=5_000), "preprocessor_config.json: shortest_edge is 5000"),
        (lambda folder: change_config(folder, d_model=1 << 16), "a network of .* numbers, its weights have .* bytes"),
        (lambda folder: change_config(folder, num_labels=9), "transformers cannot read|lack"),
        (lambda folder: change_config(folder, model_type="bert"), "'bert', which finds no boxes"),
    ],
)  # fmt: skip
def test_folders_that_are_refused(model, spoil, message):
    spoil(model)
    with pytest.raises((UserError, CallError), match=message) as caught:
        load_detector(spec(model))
    assert str(caught.value).startswith("images.detector: ")
    assert len(str(caught.value)) < 1200
    assert not (model / "RAN").exists()


def test_its_own_code_is_not_run_where_the_library_knows_the_architecture(model):
    change_config(model, auto_map={"AutoConfig": "evil.Config", "AutoModelForObjectDetection": "evil.Model"})
    (model / "evil.py").write_text(f"import pathlib\npathlib.Path({str(model / 'RAN')!r}).touch()\n")
    assert load_detector(spec(model)).feature_dim == 16
    assert not (model / "RAN").exists()


def test_weights_of_another_file(detr):
    with pytest.raises(CallError, match=r"images\.weights: transformers:.* has its weights in its folder"):
        load_detector(spec(detr, "w.safetensors"))


def test_it_is_one_of_ours():
    assert is_shipped("transformers:PekingU/rtdetr_v2_r18vd")
    assert not is_shipped("transformers")
