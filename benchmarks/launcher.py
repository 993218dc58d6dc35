"""What the launching process of a run needs as the corpus grows: processor seconds and memory, without its workers'.

    python benchmarks/launcher.py --out DIR [--steps survey …] [--sizes 1000000 10000000 …] [--workers 2]

The steps, each in a process of its own, over generated files in the formats of the stages:

    files     `detect` lists N image files in folders, surveys them by their names, and notes what it read
    survey    after `detect` has surveyed N images: duplicates among them (one in a hundred), and the units of detection
    results   after `detect` has worked on N images: progress, and the manifest of its units' results
    manifests a later stage reads that manifest
    index     the whole stage, over N regions with features of 16 numbers and 80 concepts
    shards    `mix`: the units of N image samples
    record    after `detect` has worked on N images: their record, joined from those of its units
    drop      `drop` of 100 among N images: who they are, and the survey without them
    bank-drop   `bank drop` of 100 images from a bank of N patches of 1,600 concepts
    bank-merge  `bank merge` of such a bank and itself: each patch is there twice

Prints for each the launcher's processor seconds, its largest memory, of which its own is without mapped pages, and the
seconds by the clock. Files of a size are
removed before the next one is made; 10 million images take 0.5 GB.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from benchmarks.generated_regions import REGIONS_PER_IMAGE, write_bank, write_regions
from benchmarks.watching import memory_of

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.details import DetectorIdentity, RegionsDetails, to_json
from vlmixer.artifacts.manifest import Counts, Input, Output
from vlmixer.artifacts.stages import DETECT, MIX
from vlmixer.bank.changing import drop_images, merge_banks
from vlmixer.bank.concepts import load_vocabulary
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.config import ImageSettings, MixSettings, load_config
from vlmixer.pipeline.image.parts import FoundRegions, with_regions
from vlmixer.pipeline.image.photos import Content, MetImage
from vlmixer.pipeline.image.readers.base import ImageRef, InputFile, InputPiece, with_name_digest
from vlmixer.pipeline.image.readers.corpus import plan as plan_corpus
from vlmixer.pipeline.image.readers.references import SURVEY_SCHEMA
from vlmixer.pipeline.image.record import join_units, write_inputs, write_unit
from vlmixer.pipeline.image.survey import DETECT_UNITS, PREPARATION, SURVEY_UNITS, SurveyRows
from vlmixer.pipeline.image.survey import SIZES as DETECT_SIZES
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.jobs.finish import Finish
from vlmixer.pipeline.jobs.index import run_index
from vlmixer.pipeline.jobs.survey import Surveyed, part_name, survey_images, surveyed_files
from vlmixer.pipeline.mix.units import plan_image_shards
from vlmixer.pipeline.replacing.finding import find_images
from vlmixer.pipeline.replacing.images import write_survey as write_remaining
from vlmixer.pipeline.units.finishing import finish_stage, publish_known
from vlmixer.pipeline.units.inputs import InputFiles
from vlmixer.pipeline.units.listing import publish_units
from vlmixer.pipeline.units.passes import count_units
from vlmixer.pipeline.units.plan import Plan, begin_stage
from vlmixer.pipeline.units.progress import progress
from vlmixer.pipeline.units.stage import AnyStage, Stage
from vlmixer.pipeline.units.unit import Unit, UnitResult

IMAGES_PER_TAR = 50_000
FILES_PER_FOLDER = 1000
EQUAL = 100
"""One image in so many has the content of another one."""


def write_files(out: str, images: int) -> None:
    """OUT/photos with this many names of a few files."""
    for begin in range(0, images, FILES_PER_FOLDER):
        folder = Path(out, "photos", f"{begin // FILES_PER_FOLDER:05d}")
        folder.mkdir(parents=True)
        names = [folder / f"photo-{number:09d}.jpg" for number in range(begin, min(begin + FILES_PER_FOLDER, images))]
        names[0].write_bytes(b"\xff\xd8\xff\xe0")
        for name in names[1:]:
            name.hardlink_to(names[0])


def files_in_folders(out: str, images: int, engine: Engine) -> str:
    """What the launcher does with the names of image files, from the first to the last."""
    stage, photos = Stage(DETECT, out), [f"{out}/photos"]
    corpus = plan_corpus(photos)
    plan = Plan({}, files.NamesAndSizes(corpus.inputs), {})
    watched = InputFiles(corpus.inputs, lambda: plan_corpus(photos).inputs, lambda *_: None)
    begin_stage(stage, plan, overwrite=True, preparation=PREPARATION, inputs=watched)
    units = survey_images(corpus.pieces, stage, engine, ImageSettings(drop_duplicates=False))
    write_inputs(stage.folder, plan.inputs)
    watched.finish(stage, surveyed_files(stage, corpus, contents=False))
    return f"{len(units):,} units"


def _pieces(images: int) -> list[InputPiece]:
    return [
        InputPiece("tar", (InputFile(number, f"/corpus/{number:06d}.tar", 1),))
        for number in range(-(-images // IMAGES_PER_TAR))
    ]


def write_survey(out: str, images: int) -> None:
    """OUT/work/detect after the survey of this many images in tars."""
    stage = Stage(DETECT, out)
    files.publish_bytes(stage.plan, b"{}\n")
    rows = np.arange(IMAGES_PER_TAR)
    keys = pa.array([f"{row:09d}.jpg" for row in rows])
    empty = pa.array([""] * len(rows))
    constant = empty.dictionary_encode()
    constant = pa.DictionaryArray.from_arrays(constant.indices.cast(pa.int32()), constant.dictionary)
    for number, piece in enumerate(_pieces(images)):
        count = min(IMAGES_PER_TAR, images - number * IMAGES_PER_TAR)
        rng = np.random.default_rng([2, number])
        contents = np.uint64(number * IMAGES_PER_TAR) + rows.astype(np.uint64)
        equal = rng.random(len(rows)) < 1 / EQUAL
        contents[equal] = rng.integers(0, images, int(equal.sum()))
        # Digests look random.
        digests = np.stack([contents * np.uint64(0x9E3779B97F4A7C15), contents * np.uint64(0xC2B2AE3D27D4EB4F)], 1)
        digest = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(rows), [None, pa.py_buffer(digests.tobytes())])
        columns = {
            "source": pa.DictionaryArray.from_arrays(constant.indices, pa.array([piece.files[0].name])),
            "key": keys,
            "format": constant,
            "position": pa.array(rows * 65_536),
            "size": pa.array(np.full(len(rows), 65_000)),
            "input": pa.array(np.full(len(rows), number)),
            "place": pa.array(rows),
            "digest": digest,
            "predictions": constant,
            "prediction": pa.FixedSizeListArray.from_arrays(pa.array(np.full(2 * len(rows), -1)), 2),
        }
        table = pa.table({name: columns.get(name, empty) for name in SURVEY_SCHEMA.names}, schema=SURVEY_SCHEMA)
        unit = SURVEY_UNITS.name(number)
        path = files.join(stage.work, part_name(unit))
        pq.write_table(table.slice(0, count), path, row_group_size=4096, compression="zstd", write_statistics=False)
        _write_result(stage, unit, UnitResult(Surveyed(count), {"images": Counts(count, count)}))


def _write_result(stage: AnyStage, unit: str, result: UnitResult[Any]) -> None:
    # Faster than `publish_result`, which waits for the disk.
    Path(stage.stats(unit)).write_bytes(manifest.canonical(to_json(result)))


def survey(out: str, images: int, engine: Engine) -> str:
    """The launcher between the survey and detection."""
    units = survey_images(_pieces(images), Stage(DETECT, out), engine, ImageSettings())
    return f"{len(units):,} units"


def _units(images: int) -> int:
    return count_units(images, DETECT_SIZES.images_of_unit(images))


def write_results(out: str, images: int) -> None:
    """OUT/work/detect after all its units: their results, without the files that they name."""
    stage = Stage(DETECT, out)
    files.publish_bytes(stage.plan, b"{}\n")
    units = _units(images)
    concepts = {f"thing {number:02d}": images * 3 // units // 80 + 1 for number in range(80)}
    own, name = images // units, DETECT_UNITS.name(0)
    result = UnitResult(
        FoundRegions(own - own // 50, concepts, 16, ()),
        {"images": Counts(own, own - own // 50, {"no_region": own // 50})},
        inputs=(Input(f"{own} images of {name}", 65_000 * own, "0" * 64),),
        outputs=(Output(f"{name}.parquet", 3 * own, 4_000 * own, "0" * 64),),
        rejects=(Output(f"detect-{name}.parquet", own // 50, 2_000, "0" * 64),),
    )
    data = manifest.canonical(to_json(result))
    for number in range(units):
        unit = DETECT_UNITS.name(number)
        Path(stage.stats(unit)).write_bytes(data.replace(name.encode(), unit.encode()))


def results(out: str, images: int, engine: Engine) -> str:
    """The launcher after detection. The last unit, which reads the results, runs in a worker."""
    stage = Stage(DETECT, out)
    detector = DetectorIdentity("generated", "none", "cpu", {})
    publish_known(stage, Plan({}, [], {}), RegionsDetails(detector, 0, "things", "0" * 64, {}, (), (), 0))
    units = _units(images)
    with progress(stage, "detect", [DETECT_UNITS.name(number) for number in range(units)], "images"):
        finish = Finish(stage, partial(with_regions, stage, units), 0)
        engine.run(stage, [Unit("none", 0)] * 2, int, lambda none: none | beam.Map(str) | finish, label="results")
    finish_stage(stage, max_bad_fraction=1.0)
    size = Path(stage.folder, manifest.NAME).stat().st_size
    return f"manifest of {size / 1e6:.0f} MB"


def write_manifest(out: str, images: int) -> None:
    """OUT/regions/manifest.json after `detect`."""
    write_results(out, images)
    results(out, images, Engine(1))


def manifests(out: str, images: int, engine: Engine) -> str:
    """A later stage reads the manifest of detection."""
    return f"{len(manifest.read(Stage(DETECT, out).folder).parts):,} parts"


def index(out: str, regions: int, engine: Engine) -> str:
    """Stage `index` as a whole."""
    config = replace(load_config(f"{out}/config.yaml"), out=out)
    finished = run_index(config, load_vocabulary(config.vocabulary), engine, overwrite=False)
    return f"{finished.counts['regions'].written:,} patches"


def shards(out: str, images: int, engine: Engine) -> str:
    """The image samples as `mix` plans them."""
    units = _units(images)
    parts = [(f"{DETECT_UNITS.name(number)}.parquet", images // units) for number in range(units)]
    planned = plan_image_shards(parts, MixSettings().samples_per_shard)
    publish_units(Stage(MIX, out), planned)
    return f"{len(planned):,} shards of {units:,} parts"


def _records(out: str, images: int) -> list[str]:
    return [
        files.join(Stage(DETECT, out).work, f"{DETECT_UNITS.name(number)}.images") for number in range(_units(images))
    ]


def write_records(out: str, images: int) -> None:
    """OUT/work/detect after all its units: the records of the images that they met."""
    size = DETECT_SIZES.images_of_unit(images)
    for number, path in enumerate(_records(out, images)):
        met = []
        for image in range(number * size, min((number + 1) * size, images)):
            tar, row = divmod(image, IMAGES_PER_TAR)
            ref = ImageRef(f"/corpus/{tar:06d}.tar", f"{image:09d}.jpg", "tar", row * 65_536, 65_000, order=(tar, row))
            rows = SurveyRows(f"survey-{tar:05d}.parquet", 0, IMAGES_PER_TAR, "tar")
            reason = "" if image % 50 else "no_region"
            met.append(MetImage(with_name_digest(ref), rows, row, Content.of(ref.key.encode()), 640, 480, reason))
        write_unit(path, met)


def record(out: str, images: int, engine: Engine) -> str:
    """The record of all images. It is joined in a worker, by the last unit."""
    joined = join_units(Stage(DETECT, out).folder, _records(out, images))
    return f"{joined.bytes / 1e6:.0f} MB"


def write_record(out: str, images: int) -> None:
    """OUT/regions/record after `detect`."""
    write_records(out, images)
    record(out, images, Engine(1))


def drop(out: str, images: int, engine: Engine) -> str:
    """Who 100 named images are, and the survey of the others."""
    stage = Stage(DETECT, out)
    gone = find_images(stage.folder, [f"{image:09d}.jpg" for image in range(0, images, images // 100)])
    return f"{len(gone.ids):,} images found, {len(write_remaining(stage.folder, stage.work, gone)):,} parts"


def bank_drop(out: str, patches: int, engine: Engine) -> str:
    """`bank drop`."""
    images = patches // REGIONS_PER_IMAGE
    names = [f"{image:016x}" for image in range(0, images, images // 100)]
    dropped = drop_images(PatchBank.open(f"{out}/bank"), names, f"{out}/less")
    return f"{sum(dropped.patches.values()):,} patches of {len(dropped.images)} images"


def bank_merge(out: str, patches: int, engine: Engine) -> str:
    """`bank merge`."""
    merged = merge_banks([PatchBank.open(f"{out}/bank")] * 2, f"{out}/more")
    return f"{merged.counts['regions'].written:,} patches"


STEPS: dict[str, tuple[Callable[[str, int], object], Callable[[str, int, Engine], str]]] = {
    "files": (write_files, files_in_folders),
    "survey": (write_survey, survey),
    "results": (write_results, results),
    "manifests": (write_manifest, manifests),
    "index": (lambda out, regions: write_regions(Path(out), regions, concepts=80, feature_dim=16), index),
    "shards": (lambda out, images: None, shards),
    "record": (write_records, record),
    "drop": (write_record, drop),
    "bank-drop": (lambda out, patches: write_bank(Path(out, "bank"), patches), bank_drop),
    "bank-merge": (lambda out, patches: write_bank(Path(out, "bank"), patches), bank_merge),
}
"""By name: what is generated, and what is measured."""


def measure(step: str, out: str, size: int, workers: int) -> None:
    """Do a step in this process and print what it took."""
    own = [0]

    def watch() -> None:
        while True:
            own.append(max(held.own for held in memory_of(os.getpid())[:1]))
            time.sleep(0.05)

    threading.Thread(target=watch, daemon=True).start()
    before, began = time.process_time(), time.monotonic()
    found = STEPS[step][1](out, size, Engine(workers))
    seconds, memory = time.process_time() - before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    clock = time.monotonic() - began
    taken = f"launcher {seconds:.1f} s, {memory:,.0f} MB, own {max(own) / 2**20:,.0f}; clock {clock:.0f} s"
    print(f"{step}, {size:,}: {taken}; {found}", flush=True)


def main() -> None:
    """Measure all steps at all sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=STEPS)
    parser.add_argument("--sizes", nargs="+", type=int, default=[1_000_000, 10_000_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--measure", nargs=2, metavar=("STEP", "SIZE"), help="only this, over files that are there")
    options = parser.parse_args()
    if options.measure:
        step, size = options.measure
        measure(step, str(options.out), int(size), options.workers)
        return
    for step in options.steps:
        for size in options.sizes:
            shutil.rmtree(options.out, ignore_errors=True)
            STEPS[step][0](str(options.out), size)
            arguments = ["--out", str(options.out), "--workers", str(options.workers), "--measure", step, str(size)]
            subprocess.run([sys.executable, __file__, *arguments], check=True)
    shutil.rmtree(options.out, ignore_errors=True)


if __name__ == "__main__":
    main()
