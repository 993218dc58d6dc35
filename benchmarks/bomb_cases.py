"""Which command reads which bomb, for bombs.py: the cases, each in a folder of its own."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
from benchmarks import bomb_files as made
from benchmarks import image_bombs
from tests.pipeline import forging

DETECTORS = {
    "torchvision": "fasterrcnn_mobilenet_v3_large_320_fpn",
    "yolox": "examples.yolox_onnx:YoloxOnnx", "yolo": "examples.yolo_onnx:YoloOnnx",
}  # fmt: skip
Command = list[str]


@dataclass(frozen=True)
class Place:
    """Where a bomb is put. given: the config and what it names. sound: a finished result. scratch: a fresh folder."""

    given: Path
    sound: Path
    scratch: Path

    def file(self, name: str, data: bytes) -> Path:
        """A new file."""
        path = self.scratch / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def stage(self, name: str, *settings: str) -> Command:
        """A stage over the small corpus, with other settings."""
        sets = [part for one in settings for part in ("--set", one)]
        return [name, f"{self.given}/config.yaml", *sets, "--out", f"{self.scratch}/new", "--workers", "1"]


Change = Callable[[bytes], bytes]
Case = Callable[[Place], Command]
"""Makes a bomb, and returns the command that reads it."""


def text(name: str, bomb: made.Make, place: Place) -> Command:
    """A corpus of sentences."""
    return place.stage("tag", f"text.inputs=[{place.file(name, bomb())}]")


def images(name: str, bomb: made.Make, place: Place) -> Command:
    """A corpus of images."""
    return place.stage("detect", f"images.inputs=[{place.file(name, bomb())}]")


def features(bomb: made.Make, place: Place) -> Command:
    """Region features."""
    options = f"images.detector_options={{classes: {place.file('classes.txt', b'dog')}}}"
    detector = f"images.detector=tsv:{place.file('features.tsv', bomb())}"
    return place.stage("detect", detector, "images.inputs=[]", options)


def boxes(bomb: made.Make, place: Place) -> Command:
    """A file of boxes."""
    weights = f"{place.given}/encoder.safetensors"
    chosen = (
        "images.features=timm:test_efficientnet",
        f"images.feature_options={{timm:test_efficientnet: {{weights: {weights}}}}}",
    )
    return place.stage("detect", f"images.detector=boxes:{place.file('boxes.json', bomb())}", *chosen)


def vocabulary(bomb: made.Make, place: Place) -> Command:
    """A vocabulary."""
    return place.stage("tag", f"vocabulary={place.file('words.yaml', bomb())}")


def weights(detector: str, name: str, bomb: made.Make, place: Place) -> Command:
    """The weights of a detector."""
    chosen = f"torchvision:{DETECTORS[detector]}" if detector == "torchvision" else DETECTORS[detector]
    options = "images.detector_options={classes: [dog]}" if detector == "yolo" else "images.detector_options={}"
    return place.stage("detect", f"images.detector={chosen}", f"images.weights={place.file(name, bomb())}", options)


def start(name: str, bomb: made.Make, place: Place) -> Command:
    """Weights that training starts from."""
    shards = f"train.shards={place.sound}/shards"
    return place.stage("train", shards, f"model.init={place.file(name, bomb())}")[:-2]


def model(file: str, change: Mapping[str, object], place: Place) -> Command:
    """A small model of transformers with other values in one of its files of settings."""
    folder = Path(shutil.copytree(place.given / "yolos", place.scratch / "yolos"))
    (folder / file).write_text(json.dumps({**json.loads((folder / file).read_bytes()), **change}))
    return place.stage("detect", f"images.detector=transformers:{folder}", "images.detector_options={}")


def encoder(change: Mapping[str, object], place: Place) -> Command:
    """A small model of timm with other values in its settings."""
    settings = {"architecture": "test_efficientnet", **change}
    folder = place.file("encoder/config.json", json.dumps(settings).encode()).parent
    shutil.copy(place.given / "encoder.safetensors", folder / "model.safetensors")
    return place.stage("detect", f"images.features=timm:{folder}")


def result(name: str, change: Change, command: str, place: Place) -> Command:
    """Another file in a finished result, whose manifests fit it."""
    out = Path(shutil.copytree(place.sound, place.scratch / "out"))
    path = out / name
    path.write_bytes(change(path.read_bytes()))
    if path.name != "manifest.json":
        forging.seal(out)
    return reader(command, out, place)


def sample(ending: str, bomb: made.Make, command: str, place: Place) -> Command:
    """Another member of the first sample of a shard."""
    out = Path(shutil.copytree(place.sound, place.scratch / "out"))
    forging.members(lambda found: {**found, ending: bomb()})(out)
    forging.seal(out)
    return reader(command, out, place)


def checkpoint(name: str, data: made.Make, place: Place) -> Command:
    """Another file in the last checkpoint of a run that is not finished."""
    out = Path(shutil.copytree(place.sound, place.scratch / "out"))
    last = max((out / "run" / "checkpoints").iterdir())
    for other in (out / "run" / "checkpoints").iterdir():
        if other != last:
            shutil.rmtree(other)
    for finished in ("model.safetensors", "manifest.json"):
        (out / "run" / finished).unlink()
    state = json.loads((last / "state.json").read_bytes())
    (last / "state.json").write_text(json.dumps({k: v for k, v in state.items() if k not in ("files", "content_hash")}))
    (last / name).write_bytes(data())
    return reader("resume", out, place)


def reader(command: str, out: Path, place: Place) -> Command:
    """A command that reads a result."""
    config, new = f"{place.given}/config.yaml", f"{place.scratch}/new"
    train = ["train", config, "--set", f"train.shards={out}/shards", "--set", "train.device=cpu"]
    if command == "query":
        patch = pq.read_table(place.sound / "bank" / "patches.parquet", columns=["patch_id"])["patch_id"][0].as_py()
        return ["bank", "query", f"{out}/bank", "--like", patch, "--json"]
    return {
        "verify": ["verify", str(out)],
        "photo": ["bank", "query", f"{out}/bank", "--like", f"{place.given}/photos/0001.jpg", "--trust-detector"],
        "stats": ["bank", "stats", f"{out}/bank"],
        "show": ["show", str(out), "--html", f"{new}.html", "-n", "400"],
        "train": [*train, "--out", new],
        "resume": [*train, "--out", f"{out}/run", "--resume"],
        "retrieval": ["eval", "retrieval", "--run", f"{out}/run", "--images", f"{place.given}/pairs.jsonl",
                      "--trust-detector"],
        "mix": ["mix", config, "--out", str(out), "--workers", "1", "--overwrite"],
        "index": ["index", config, "--out", str(out), "--workers", "1", "--overwrite"],
    }[command]  # fmt: skip


def _ids(data: bytes) -> bytes:
    content = json.loads(data)
    words = content["model"]["vocab"]
    return json.dumps({**content, "model": {**content["model"], "vocab": {**words, min(words): 10**9}}}).encode()


def _words(data: bytes) -> bytes:
    content = json.loads(data)
    words = content["model"]["vocab"]
    more = {f"{n}".zfill(60): len(words) + n for n in range(1_000_000)}
    return json.dumps({**content, "model": {**content["model"], "vocab": {**words, **more}}}).encode()


SETTINGS: Mapping[str, Mapping[str, object]] = {
    "a width of 65,536": {"hidden_size": 1 << 16, "intermediate_size": 1 << 16},
    "10^8 layers": {"num_hidden_layers": 10**8},
    "3 million names": {"id2label": dict.fromkeys(range(3_000_000), "dog")},
    "2^40 tokens": {"num_detection_tokens": 1 << 40},
    "an image of 2^40 pixels": {"image_size": [1 << 20, 1 << 20]},
    "patches of no pixel": {"patch_size": 0},
}
TOKENIZERS: Mapping[str, Change] = {"an id of a billion": _ids, "a million long words": _words}
INDEXES: Mapping[str, Change] = {
    "a trillion vectors": lambda data: made.index(data, at=8, value=1 << 40),
    "vectors of 2^31 numbers": lambda data: made.index(data, at=4, value=(1 << 31) - 1),
    "2^60 lists": lambda data: made.index(data, at=data.rindex(b"ilar") + 4, value=1 << 60),
    "2^60 bytes of a code": lambda data: made.index(data, at=data.rindex(b"ilar") + 12, value=1 << 60),
    "a list of 2^60 vectors": lambda data: made.index(data, at=data.rindex(b"full") + 12, value=1 << 60),
    "maps of maps": lambda data: made.chained(b"IxMp", data),
    "transforms of transforms": lambda data: made.chained(b"IxPT", data),
    "a graph": lambda data: made.index(data, b"IHNf"),
    "a binary index": lambda data: made.index(data, b"IBwF"),
    "flat, of 2^60 numbers": lambda data: made.index(data, b"IxFI", at=37, value=1 << 60),
    "cut in half": lambda data: data[: len(data) // 2],
}


def _instead(bomb: made.Make) -> Change:
    """A change to something else."""
    return lambda _: bomb()


def corpora() -> Iterator[tuple[str, Case]]:
    """What people download to learn from: sentences, images, region features, vocabularies."""
    yield "tag: sound", partial(text, "a.txt", lambda: b"a dog and a cat\n")
    for ending in ("gz", "zst", "bz2", "xz"):
        for name, pattern in (("one line", b"a"), ("newlines", b"\n"), ("blank lines", b" \n")):
            yield f"tag: {ending}, {name}", partial(text, f"a.txt.{ending}", partial(made.packed, ending, pattern))
    yield "tag: zst, one line of 64 GB", partial(text, "a.txt.zst", lambda: made.packed("zst", b"a") * 64)
    yield "tag: gz, an open quote", partial(text, "a.csv.gz", lambda: made.packed("gz", b'caption\n"a dog '))
    pictures = made.header(name="0.jpg") + made.header(name="1.jpg")
    yield "tag: tgz, 2 million pictures", partial(text, "a.tgz", partial(made.packed, "gz", pictures))
    yield "tag: tgz, zeros", partial(text, "a.tgz", partial(made.packed, "gz", b"\0"))
    for name, bomb in made.TARS.items():
        yield f"tag: tar, {name}", partial(text, "a.tar", bomb)
        yield f"detect: tar, {name}", partial(images, "a.tar", bomb)
    for name, bomb in made.PARQUET.items():
        yield f"tag: parquet, {name}", partial(text, "a.parquet", bomb)
    for name, bomb in made.JSON.items():
        yield f"tag: jsonl, {name}", partial(text, "a.jsonl", bomb)
        yield f"tag: json, {name}", partial(text, "a.json", bomb)
        yield f"detect: list, {name}", partial(images, "a.jsonl", bomb)
        yield f"detect: boxes, {name}", partial(boxes, bomb)
    for name, bomb in made.YAML.items():
        yield f"tag: vocabulary, {name}", partial(vocabulary, bomb)
    for name, bomb in made.FEATURES.items():
        yield f"detect: features, {name}", partial(features, bomb)
    for name, bomb in image_bombs.BOMBS.items():
        yield f"detect: {name}", partial(images, "a.jpg", bomb)
    picture = image_bombs.encoded("PNG") + bytes(1 << 26)
    yield (
        "detect: parquet, a picture of 64 MB in 200 rows",
        partial(images, "a.parquet", partial(made.parquet, "image", picture, 200)),
    )


def networks() -> Iterator[tuple[str, Case]]:
    """Weights of detectors, and what training starts from."""
    for name, bomb in made.SAVED.items():
        yield f"detect: weights.pth, {name}", partial(weights, "torchvision", "a.pth", bomb)
        yield f"train: init.pth, {name}", partial(start, "a.pth", bomb)
        yield f"train: optimizer.pt, {name}", partial(checkpoint, "optimizer.pt", bomb)
    for name, bomb in made.TENSORS.items():
        yield f"detect: weights.safetensors, {name}", partial(weights, "torchvision", "a.safetensors", bomb)
        yield f"train: init.safetensors, {name}", partial(start, "a.safetensors", bomb)
        yield f"train: checkpoint's weights, {name}", partial(checkpoint, "model.safetensors", bomb)
    for name, bomb in made.JSON.items():
        yield f"train: state.json, {name}", partial(checkpoint, "state.json", bomb)
    for name, bomb in made.NETWORKS.items():
        for detector in ("yolox", "yolo"):
            yield f"detect: {detector}.onnx, {name}", partial(weights, detector, "a.onnx", bomb)
    yield "detect: transformers, sound", partial(model, "config.json", {})
    yield "detect: timm, sound", partial(encoder, {})
    for name, values in SETTINGS.items():
        yield f"detect: transformers, {name}", partial(model, "config.json", values)
    size = {"size": {"shortest_edge": 10**6, "longest_edge": 10**6}}
    yield "detect: transformers, pictures of a million pixels", partial(model, "preprocessor_config.json", size)
    for cfg in ({"input_size": [3, 10**9, 10**9]}, {"input_size": "x"}, {"mean": "x"}, "x"):
        yield f"detect: timm, {cfg}", partial(encoder, {"pretrained_cfg": cfg})


def results() -> Iterator[tuple[str, Case]]:
    """A bank, shards, and a run from somebody else."""
    for command in ("verify", "query", "photo", "show", "train", "retrieval", "mix", "index"):
        yield f"{command}: sound", partial(result, "bank/crops.bin", lambda data: data, command)
    for folder, command in (("bank", "stats"), ("shards", "train"), ("run", "retrieval"), ("regions", "index")):
        for name, bomb in made.JSON.items():
            for reading in (command, "verify"):
                forged = partial(result, f"{folder}/manifest.json", _instead(bomb), reading)
                yield f"{reading}: {folder}/manifest.json, {name}", forged
    for command in ("query", "verify"):
        for name, change in INDEXES.items():
            yield f"{command}: index.faiss, {name}", partial(result, "bank/index.faiss", change, command)
        for name, bomb in made.ARRAYS.items():
            yield f"{command}: features.npy, {name}", partial(result, "bank/features.npy", _instead(bomb), command)
        for name, bomb in made.PARQUET.items():
            yield (
                f"{command}: patches.parquet, {name}",
                partial(result, "bank/patches.parquet", _instead(bomb), command),
            )
    for name, bomb in made.YAML.items():
        yield f"photo: config.yaml, {name}", partial(result, "config.yaml", _instead(bomb), "photo")
        yield f"retrieval: config.yaml, {name}", partial(result, "run/config.yaml", _instead(bomb), "retrieval")
    tokenizers = {name: _instead(bomb) for name, bomb in made.JSON.items()} | dict(TOKENIZERS)
    for name, change in tokenizers.items():
        yield f"retrieval: tokenizer.json, {name}", partial(result, "run/tokenizer.json", change, "retrieval")
    for name, bomb in made.TENSORS.items():
        for file, command in (("model", "retrieval"), ("reference", "verify")):
            forged = partial(result, f"run/{file}.safetensors", _instead(bomb), command)
            yield f"{command}: {file}.safetensors, {name}", forged
    for command in ("train", "show", "verify"):
        for name, bomb in made.TARS.items():
            yield f"{command}: shard, {name}", partial(result, "shards/mixed-000000.tar", _instead(bomb), command)
        for name, bomb in made.ARRAYS.items():
            yield f"{command}: .npy of a sample, {name}", partial(sample, "npy", bomb, command)
        for name, bomb in made.JSON.items():
            yield f"{command}: .json of a sample, {name}", partial(sample, "json", bomb, command)
        yield f"{command}: a picture of a sample", partial(sample, "jpg", image_bombs.png_pixels, command)
