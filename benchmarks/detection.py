"""Speed of stage `detect` on this machine, as ratios of calls that take turns.

    python benchmarks/detection.py --photos DIR [--images 100] [--rounds 3] [--model NAME] [--only PART]...
    python benchmarks/detection.py --photos DIR --device cuda --model fasterrcnn_resnet50_fpn_v2 --workers 4
    python benchmarks/detection.py --photos DIR --detector examples.yolox_onnx:YoloxOnnx --weights FILE

Parts:

    stages      time of decoding, inference, choice, crops and writing per photo
    bare        the whole stage against a loop that only decodes and calls the model on the same photos
    workers     --workers processes against one
    beam        the stage against Beam's own example (beam_example.py), as published and with objects of our size
    settings    channels_last, bfloat16, threads and batches, of the model alone

A torchvision model gets random weights, which take as long as trained ones, and a score threshold that keeps about
--regions regions per image.
"""

import argparse
import itertools
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

import numpy as np
import torch
from PIL import Image
from torchvision.models import get_model, get_model_weights
from torchvision.models.detection.transform import GeneralizedRCNNTransform

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports of `benchmarks` and `examples`

from benchmarks.beam_example import make_model, run_beam_example
from benchmarks.timing import Taken, in_turn, median, spread

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

STATE = "state.pth"
PARTS = ("stages", "bare", "workers", "beam", "settings")


@dataclass(frozen=True)
class Setup:
    """What is measured: the photos, and the detector as a config names it.

    work: folder for temporary files.
    """

    photos: list[str]
    settings: ImageSettings
    work: Path
    rounds: int
    workers: int

    @property
    def spec(self) -> DetectorSpec:
        """The detector as the stage loads it."""
        options = self.settings.detector_options
        return DetectorSpec(
            self.settings.detector,
            self.settings.weights,
            self.settings.device,
            self.settings.score_threshold,
            options,
            (".",),
        )


def ratio(taken: dict[str, list[Taken]], slow: str, fast: str) -> str:
    """How many times as fast `fast` is: median of the rounds' ratios and their range, by wall clock and by work."""
    pairs = list(zip(taken[slow], taken[fast], strict=True))
    work = spread([one.cpu / other.cpu for one, other in pairs])
    return f"{wall_ratio(taken, slow, fast)} by wall clock, {work} by work"


def wall_ratio(taken: dict[str, list[Taken]], slow: str, fast: str) -> str:
    """The same by wall clock alone."""
    return spread([one.wall / other.wall for one, other in zip(taken[slow], taken[fast], strict=True)])


def rate(images: int, taken: Sequence[Taken]) -> str:
    """Images per second, by wall clock and by work."""
    middle = median(taken)
    return f"{images / middle.wall:.2f} images/s ({images / middle.cpu:.2f} by work)"


def bare_loop(setup: Setup) -> int:
    """Load the detector, then read, decode and look at one photo after the other; returns the number of regions."""
    detector = load_detector(setup.spec)
    regions = 0
    for path in setup.photos:
        with open(path, "rb") as file:
            pixels = decode(file.read(), max_pixels=1e8)
        regions += sum(len(found.scores) for found in detector.detect([pixels]))
    return regions


def stage(setup: Setup, workers: int) -> None:
    """Run `vlmixer detect` over the photos."""
    with tempfile.TemporaryDirectory(dir=setup.work) as out:
        images = replace(setup.settings, inputs=tuple(setup.photos))
        config = Config(out=out, images=images, max_bad_fraction=1.0)
        vocabulary = load_vocabulary("coco")
        run_detect(config, vocabulary, Engine(workers), overwrite=False, import_paths=[os.getcwd()])


def measure_stages(setup: Setup) -> None:
    """Measure each part of the stage by itself, over all photos."""
    loaded = load_with_concepts(setup.spec, load_vocabulary("coco"))
    detector = loaded.detector
    contents = [Path(path).read_bytes() for path in setup.photos]
    taken = {"decode": 0.0, "inference": 0.0, "choose": 0.0, "crop and table": 0.0, "write": 0.0}
    schema = schemas.regions(detector.feature_dim)
    regions = 0
    # An accelerator's work does not count as this process's.
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
    print(f"stages: {regions / len(setup.photos):.1f} regions per photo, milliseconds of {what} per photo")
    for name, value in taken.items():
        print(f"  {name:16}{value / len(setup.photos) * 1000:8.1f}  {value / whole:6.1%}")


def measure_bare(setup: Setup) -> None:
    taken = in_turn(setup.rounds, {"bare": lambda: bare_loop(setup), "stage": lambda: stage(setup, 1)})
    gain = ratio(taken, "bare", "stage")
    print(f"bare: the stage's speed over a bare loop's, both including loading the model: {gain}")
    for name, times in taken.items():
        print(f"  {name:16}{rate(len(setup.photos), times)}")


def measure_workers(setup: Setup) -> None:
    calls = {"one": lambda: stage(setup, 1), "several": lambda: stage(setup, setup.workers)}
    taken = in_turn(setup.rounds, calls)
    gain = wall_ratio(taken, "one", "several")
    print(f"workers: {setup.workers} over one {gain} by wall clock, including the start of the processes")
    for name, times in taken.items():
        print(f"  {name:16}{len(setup.photos) / median(times).wall:.2f} images/s")


def one_worker(setup: Setup) -> None:
    """Run the stage with a worker's single thread, whatever number was set before."""
    fix_threads()
    stage(setup, 1)


def measure_beam(setup: Setup) -> None:
    name = setup.settings.detector.partition(":")[2]
    transform: GeneralizedRCNNTransform = make_model(name, None, 91).transform
    shorter, longest = transform.min_size[0], transform.max_size
    sides = []
    for path in setup.photos:
        with Image.open(path) as image:
            scale = min(shorter / min(image.size), longest / max(image.size))
            sides.append(max(image.size) * scale)
    square = round(max(sides))
    half = replace(setup, settings=replace(setup.settings, detector_options={"precision": "bfloat16"}))

    def example(side: int, network_size: int | None, threads: int) -> None:
        run_beam_example(setup.photos, setup.settings, setup.work / STATE, side, network_size, threads)

    works: dict[str, Callable[[], object]] = {
        "stage": lambda: one_worker(setup),
        "bfloat16": lambda: one_worker(half),
        "published": lambda: example(800, None, 1),
        "same size": lambda: example(square, square, 1),
        "threads": lambda: example(square, square, os.cpu_count() or 1),
    }
    taken = in_turn(setup.rounds, works)
    fix_threads()
    print("beam: the stage, one worker, over Beam's example")
    for name, ours, what in (
        ("published", "stage", "as published (squares of 800, then the model's own resizing)"),
        ("same size", "stage", f"objects as large as in our stage (squares of {square})"),
        ("threads", "stage", f"the same with torch's default of {os.cpu_count()} threads"),
        ("same size", "bfloat16", f"squares of {square}, the stage in bfloat16"),
    ):
        print(f"  {what:64}{ratio(taken, name, ours)}")
    for name, times in taken.items():
        print(f"  {name:16}{rate(len(setup.photos), times)}")


def in_lists(detector: Detector, pixels: Sequence[np.ndarray], size: int) -> list[list[Detections]]:
    """What the detector finds if it gets `size` photos at a time."""
    return [detector.detect(pixels[at : at + size]) for at in range(0, len(pixels), size)]


def measure_settings(setup: Setup) -> None:
    """Measure the model alone on decoded photos: memory layout, precision, threads, batches."""
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
        work()  # the first call also allocates
    taken = in_turn(setup.rounds, works)
    print("settings: the model alone, one thread unless stated; speed over float32")
    for name, times in taken.items():
        print(f"  {name:36}{ratio(taken, 'float32', name):64}{rate(len(pixels), times)}")


def _with(spec: DetectorSpec, **options: object) -> DetectorSpec:
    return replace(spec, options={**spec.options, **options})


def random_weights(name: str, folder: Path, photos: Sequence[str], regions: int, device: str) -> tuple[str, float]:
    """A file of random weights, and the score that about `regions` regions per photo reach."""
    categories = get_model_weights(name)["DEFAULT"].meta["categories"]
    torch.manual_seed(0)
    network = get_model(name, weights=None, weights_backbone=None, num_classes=len(categories))
    path = str(folder / STATE)
    factor = 30.0  # for the weights of the scores: large enough that scores differ, small enough that not all are 1
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
    """Print a few lines per part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, metavar="DIR")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="fasterrcnn_mobilenet_v3_large_320_fpn", help="name of a torchvision model")
    parser.add_argument("--regions", type=int, default=6, help="regions per image of a model with random weights")
    parser.add_argument("--detector", help="another detector, with --weights; only for `stages`, `bare` and `workers`")
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
        # Beam's example is measured on a CPU only.
        parts = args.only or (
            PARTS[:3] if args.detector else [part for part in PARTS if (part, args.device) != ("beam", "cuda")]
        )
        for part in parts:
            measures[part](setup)


if __name__ == "__main__":
    main()
