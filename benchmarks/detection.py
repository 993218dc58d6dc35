"""Speed of stage `detect` on this machine, as ratios of things run alternately.

    python benchmarks/detection.py --photos DIR [--images 100] [--rounds 3] [--model NAME] [--only PART]...
    python benchmarks/detection.py --photos DIR --device cuda --model fasterrcnn_resnet50_fpn_v2 --workers 4
    python benchmarks/detection.py --photos DIR --detector examples.yolox_onnx:YoloxOnnx --weights FILE

Parts: `stages`, what decoding, inference, crops and writing take an image; `bare`, the whole stage against a loop of
decode and model over the same photos; `workers`, --workers processes against one; `beam`, the stage against Beam's
published way (its object-detection example: every image padded to one square, RunInference in batches), once as
published and once with objects as large as the network sees them here; `settings`, channels_last, bfloat16, threads
and batches, the model alone. A torchvision model gets random weights, which cost what trained ones do, and a score
threshold that keeps about --regions regions an image.
"""

import argparse
import io
import itertools
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import apache_beam as beam
import numpy as np
import torch
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.ml.inference.pytorch_inference import PytorchModelHandlerTensor
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from PIL import Image
from torchvision.models import get_model, get_model_weights
from torchvision.models.detection.transform import GeneralizedRCNNTransform

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that examples/ is found from any folder

from vlmixer.artifacts import schemas
from vlmixer.bank.concepts import load_vocabulary
from vlmixer.pipeline.config import Config, ImageSettings
from vlmixer.pipeline.image.decoding import decode
from vlmixer.pipeline.image.detection import load_with_concepts, region_choice
from vlmixer.pipeline.image.detectors.base import Detections, Detector
from vlmixer.pipeline.image.detectors.loading import DetectorSpec, fix_threads, load_detector
from vlmixer.pipeline.image.photos import Photo
from vlmixer.pipeline.image.readers.base import ImageRef
from vlmixer.pipeline.image.regions import choose_regions
from vlmixer.pipeline.image.regions_table import regions_table
from vlmixer.pipeline.jobs.detect import run_detect
from vlmixer.pipeline.jobs.engine import Engine

PARTS = ("stages", "bare", "workers", "beam", "settings")


@dataclass(frozen=True)
class Setup:
    """What is measured: the photos, and the detector as a config names it."""

    photos: list[str]
    settings: ImageSettings
    work: Path
    rounds: int
    workers: int

    @property
    def spec(self) -> DetectorSpec:
        """The detector as the stage makes it."""
        options = self.settings.detector_options
        return DetectorSpec(
            self.settings.detector,
            self.settings.weights,
            self.settings.device,
            self.settings.score_threshold,
            options,
            (".",),
        )


@dataclass(frozen=True)
class Taken:
    """Seconds by the clock, and of this process's work on all its threads, which others on the machine disturb less."""

    clock: float
    work: float


def measured(work: Callable[[], object]) -> Taken:
    """How long it takes."""
    clock, worked = time.perf_counter(), time.process_time()
    work()
    return Taken(time.perf_counter() - clock, time.process_time() - worked)


def alternately(rounds: int, **works: Callable[[], object]) -> dict[str, list[Taken]]:
    """What each took, run one after the other, round by round."""
    taken: dict[str, list[Taken]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            taken[name].append(measured(work))
    return taken


def ratio(taken: dict[str, list[Taken]], slow: str, fast: str, *, only_clock: bool = False) -> str:
    """How many times faster `fast` was: median of the rounds' ratios and their range, by the clock and by work."""

    def told(found: list[float]) -> str:
        return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"

    pairs = list(zip(taken[slow], taken[fast], strict=True))
    clock = told([one.clock / other.clock for one, other in pairs])
    return (
        clock
        if only_clock
        else f"{clock} by the clock, {told([one.work / other.work for one, other in pairs])} by work"
    )


def rate(images: int, taken: Sequence[Taken]) -> str:
    """Images a second by the clock, and a second of work."""
    clock, work = (statistics.median(getattr(one, kind) for one in taken) for kind in ("clock", "work"))
    return f"{images / clock:.2f} images/s ({images / work:.2f} a second of work)"


def bare_loop(setup: Setup) -> int:
    """Load the detector, then read, decode and look at one photo after the other; the number of regions."""
    detector = load_detector(setup.spec)
    regions = 0
    for path in setup.photos:
        with open(path, "rb") as file:
            pixels = decode(file.read(), max_pixels=1e8)
        regions += sum(len(found.scores) for found in detector.detect([pixels]))
    return regions


def stage(setup: Setup, workers: int) -> None:
    """`vlmixer detect` over the photos."""
    with tempfile.TemporaryDirectory(dir=setup.work) as out:
        images = replace(setup.settings, inputs=tuple(setup.photos))
        config = Config(out=out, images=images, max_bad_fraction=1.0)
        vocabulary = load_vocabulary("coco")
        run_detect(config, vocabulary, Engine(workers), overwrite=False, import_paths=[os.getcwd()])


def measure_stages(setup: Setup) -> None:
    """Each part by itself, over all photos."""
    loaded = load_with_concepts(setup.spec, load_vocabulary("coco"))
    detector = loaded.detector
    contents = [Path(path).read_bytes() for path in setup.photos]
    taken = {"decode": 0.0, "inference": 0.0, "choose": 0.0, "crop and table": 0.0, "write": 0.0}
    schema = schemas.regions(detector.feature_dim)
    regions = 0
    # An accelerator's work is not that of this process.
    now, what = (time.process_time, "work") if setup.settings.device == "cpu" else (time.perf_counter, "time")

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        start = now()
        yield
        taken[name] += now() - start

    with schemas.writing_parquet(str(setup.work / "part.parquet"), schema) as writer:
        for path, data in zip(setup.photos, contents, strict=True):
            with timed("decode"):
                pixels = decode(data, max_pixels=1e8)
            photo = Photo(ImageRef(path), pixels.shape[1], pixels.shape[0], pixels)
            with timed("inference"):
                (found,) = detector.detect([pixels])
            with timed("choose"):
                kept = choose_regions(
                    found, loaded.concepts, width=photo.width, height=photo.height, choice=region_choice(setup.settings)
                )
            regions += len(kept)
            if kept:
                with timed("crop and table"):
                    table = regions_table([(photo, kept)], schema, setup.settings.crop_size)
                with timed("write"):
                    writer.write_table(table)
    whole = sum(taken.values())
    print(f"stages: {regions / len(setup.photos):.1f} regions a photo, milliseconds of {what} a photo")
    for name, value in taken.items():
        print(f"  {name:16}{value / len(setup.photos) * 1000:8.1f}  {value / whole:6.1%}")


def measure_bare(setup: Setup) -> None:
    taken = alternately(setup.rounds, bare=lambda: bare_loop(setup), stage=lambda: stage(setup, 1))
    print(f"bare: the stage's speed over a bare loop's, both with loading the model: {ratio(taken, 'bare', 'stage')}")
    for name, times in taken.items():
        print(f"  {name:16}{rate(len(setup.photos), times)}")


def measure_workers(setup: Setup) -> None:
    taken = alternately(setup.rounds, one=lambda: stage(setup, 1), several=lambda: stage(setup, setup.workers))
    gain = ratio(taken, "one", "several", only_clock=True)
    print(f"workers: {setup.workers} over one {gain} by the clock, with starting the processes")
    for name, times in taken.items():
        print(f"  {name:16}{len(setup.photos) / statistics.median(one.clock for one in times):.2f} images/s")


class _Decode(beam.DoFn):
    """Read, decode, and fit into a square with black around it."""

    def __init__(self, size: int) -> None:
        self._size = size

    def process(self, path: str) -> Iterator[tuple[str, torch.Tensor]]:
        try:
            with open(path, "rb") as file, Image.open(io.BytesIO(file.read())) as image:
                picture = image.convert("RGB")
        except (OSError, ValueError):
            logging.exception("cannot decode %s", path)
            return
        scale = self._size / max(picture.size)
        inner = picture.resize([max(1, round(side * scale)) for side in picture.size])
        square = Image.new("RGB", (self._size, self._size))
        square.paste(inner, ((self._size - inner.width) // 2, (self._size - inner.height) // 2))
        pixels = np.asarray(square, np.float32).transpose(2, 0, 1) / 255
        yield path, torch.from_numpy(pixels.copy())


def _infer(batch, model, device, inference_args=None, model_id=None):  # type: ignore[no-untyped-def]
    with torch.no_grad():
        return model([tensor.to(device) for tensor in batch])


def _make(name: str, size: int | None, classes: int) -> torch.nn.Module:
    sizes = {} if size is None else {"min_size": size, "max_size": size}
    return get_model(name, weights=None, weights_backbone=None, num_classes=classes, **sizes).eval()


def _as_row(entry, threshold: float, most: int) -> str:  # type: ignore[no-untyped-def]
    path, result = entry
    found = getattr(result, "inference", result)
    kept = [row for row in range(len(found["scores"])) if found["scores"][row] >= threshold][:most]
    boxes = [[*found["boxes"][row].tolist(), float(found["scores"][row]), int(found["labels"][row])] for row in kept]
    return json.dumps({"image": path, "detections": boxes})


def beams_way(setup: Setup, size: int, network_size: int | None, threads: int) -> None:
    """Beam's published pipeline: decode into squares, RunInference in batches of 8, JSON lines."""
    name = setup.settings.detector.partition(":")[2]
    torch.set_num_threads(threads)
    state = str(setup.work / "state.pth")
    handler = PytorchModelHandlerTensor(
        state_dict_path=state, model_class=_make, model_params={"name": name, "size": network_size, "classes": 91},
        device="CPU", inference_fn=_infer, min_batch_size=8, max_batch_size=8,
    )  # fmt: skip
    options = PipelineOptions(["--direct_num_workers", "1"])
    threshold, most = setup.settings.score_threshold, setup.settings.max_regions
    with beam.Pipeline(runner=FnApiRunner(), options=options) as pipeline:
        (
            pipeline
            | beam.Create(setup.photos)
            | beam.Reshuffle()
            | beam.ParDo(_Decode(size))
            | RunInference(KeyedModelHandler(handler))
            | beam.Map(_as_row, threshold, most)
            | beam.io.WriteToText(str(setup.work / "detections"))
        )


def one_worker(setup: Setup) -> None:
    """The stage with a worker's one thread, however many the work before it has set."""
    fix_threads()
    stage(setup, 1)


def measure_beam(setup: Setup) -> None:
    name = setup.settings.detector.partition(":")[2]
    transform: GeneralizedRCNNTransform = _make(name, None, 91).transform
    shorter, longest = transform.min_size[0], transform.max_size
    sides = []
    for path in setup.photos:
        with Image.open(path) as image:
            scale = min(shorter / min(image.size), longest / max(image.size))
            sides.append(max(image.size) * scale)
    square = round(max(sides))
    half = replace(setup, settings=replace(setup.settings, detector_options={"precision": "bfloat16"}))
    works: dict[str, Callable[[], object]] = {
        "stage": lambda: one_worker(setup),
        "bfloat16": lambda: one_worker(half),
        "published": lambda: beams_way(setup, 800, None, 1),
        "alike": lambda: beams_way(setup, square, square, 1),
        "threads": lambda: beams_way(setup, square, square, os.cpu_count() or 1),
    }
    taken = alternately(setup.rounds, **works)
    fix_threads()
    print("beam: the stage, one worker, over Beam's published way")
    for name, ours, what in (
        ("published", "stage", "as published (squares of 800, then the model's own resizing)"),
        ("alike", "stage", f"objects as large as here (squares of {square})"),
        ("threads", "stage", f"the same with torch's default of {os.cpu_count()} threads"),
        ("alike", "bfloat16", f"squares of {square}, the stage in bfloat16"),
    ):
        print(f"  {what:64}{ratio(taken, name, ours)}")
    for name, times in taken.items():
        print(f"  {name:16}{rate(len(setup.photos), times)}")


def in_lists(detector: Detector, pixels: Sequence[np.ndarray], size: int) -> list[list[Detections]]:
    """What the detector finds, given so many photos at a time."""
    return [detector.detect(pixels[at : at + size]) for at in range(0, len(pixels), size)]


def measure_settings(setup: Setup) -> None:
    """The model alone on decoded photos: kinds of memory, numbers, threads, batches."""
    pixels = [decode(Path(path).read_bytes(), max_pixels=1e8) for path in setup.photos]
    base = setup.spec
    variants: dict[str, Detector] = {"float32": load_detector(_with(base, channels_last=False))}
    variants["float32 channels_last"] = load_detector(_with(base, channels_last=True))
    variants["bfloat16"] = load_detector(_with(base, channels_last=False, precision="bfloat16"))
    variants["bfloat16 channels_last"] = load_detector(_with(base, channels_last=True, precision="bfloat16"))
    works: dict[str, Callable[[], object]] = {
        name: partial(in_lists, detector, pixels, 1) for name, detector in variants.items()
    }

    def two_threads() -> None:
        torch.set_num_threads(2)
        works["float32 channels_last"]()
        torch.set_num_threads(1)

    if setup.settings.device == "cpu":
        works["float32 channels_last, 2 threads"] = two_threads
    names = ["float32 channels_last", *(["bfloat16 channels_last"] if setup.settings.device == "cuda" else [])]
    for name, size in itertools.product(names, (4, 8, 32)):
        works[f"{name}, lists of {size}"] = partial(in_lists, variants[name], pixels, size)
    for work in works.values():
        work()  # the first time also allocates
    taken = alternately(setup.rounds, **works)
    print("settings: the model alone, one thread where not said; speed over float32")
    for name, times in taken.items():
        print(f"  {name:36}{ratio(taken, 'float32', name):64}{rate(len(pixels), times)}")


def _with(spec: DetectorSpec, **options: object) -> DetectorSpec:
    return replace(spec, options={**spec.options, **options})


def random_weights(name: str, folder: Path, photos: Sequence[str], regions: int, device: str) -> tuple[str, float]:
    """A file of random weights, and the score that about `regions` regions of a photo reach."""
    categories = get_model_weights(name)["DEFAULT"].meta["categories"]
    torch.manual_seed(0)
    network = get_model(name, weights=None, weights_backbone=None, num_classes=len(categories))
    path = str(folder / "state.pth")
    factor = 30.0  # of the weights that make scores: large enough for scores to differ, and none so that all are 1
    while True:
        state = {
            key: value * factor if key.endswith("cls_score.weight") else value
            for key, value in network.state_dict().items()
        }
        torch.save(state, path)
        detector = load_detector(DetectorSpec(f"torchvision:{name}", path, device, 0.0))
        scores = []
        for photo in photos[:4]:
            (found,) = detector.detect([decode(Path(photo).read_bytes(), max_pixels=1e8)])
            scores.append(sorted(found.scores.tolist())[-regions:][0])
        threshold = statistics.median(scores)
        if threshold < 1:
            return path, threshold
        factor /= 10


def main() -> None:
    """Prints a few lines a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, metavar="DIR")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="fasterrcnn_mobilenet_v3_large_320_fpn", help="of torchvision")
    parser.add_argument("--regions", type=int, default=6, help="regions an image, of a model with random weights")
    parser.add_argument(
        "--detector", help="another than torchvision's, with --weights; `stages`, `bare`, `workers` only"
    )
    parser.add_argument("--weights")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", action="append", choices=PARTS)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    fix_threads()
    photos = [str(path) for path in sorted(args.photos.iterdir())[: args.images]]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if args.detector:
            settings = ImageSettings(detector=args.detector, weights=args.weights, device=args.device)
        else:
            weights, threshold = random_weights(args.model, work, photos, args.regions, args.device)
            settings = ImageSettings(
                detector=f"torchvision:{args.model}", weights=weights, score_threshold=threshold,
                device=args.device, nms_threshold=1.0,
            )  # fmt: skip
        setup = Setup(photos, settings, work, args.rounds, args.workers)
        where = f"{os.cpu_count()} cores" if args.device == "cpu" else torch.cuda.get_device_name()
        print(f"{settings.detector}: {len(photos)} photos, {args.rounds} rounds, {where}, torch {torch.__version__}")
        measures = {"stages": measure_stages, "bare": measure_bare, "workers": measure_workers, "beam": measure_beam,
                    "settings": measure_settings}  # fmt: skip
        # Beam's way is measured on a CPU only.
        parts = args.only or (
            PARTS[:3] if args.detector else [part for part in PARTS if (part, args.device) != ("beam", "cuda")]
        )
        for part in parts:
            measures[part](setup)


if __name__ == "__main__":
    main()
