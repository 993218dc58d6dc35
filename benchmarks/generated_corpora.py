"""Generates corpora of any size: the demo's drawn world and, beyond what is drawn, variations of it.

    python benchmarks/generated_corpora.py --out DIR --sentences 1000000 --photos 50000 [--workers 2]

Writes DIR/captions.txt, DIR/photos/, DIR/vocabulary.txt and DIR/config.yaml, a config like the demo's. A varied photo
is a cut of a drawn one in another light; a varied sentence is a drawn one after a date. None occurs twice. The same
arguments give the same bytes. Existing files are not drawn again.
"""

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports of `benchmarks`

import numpy as np
from PIL import Image, ImageEnhance

from vlmixer.artifacts.rng import generator
from vlmixer.pipeline.demo.captions import sentences
from vlmixer.pipeline.demo.categories import vocabulary
from vlmixer.pipeline.demo.world import PHOTOS, SENTENCES, _draw

DRAWN_PHOTOS, DRAWN_SENTENCES = 20_000, 200_000
"""Maximum numbers of drawn ones; a varied one takes a fifth of the time."""
MONTHS = ("January February March April May June July August September October November December").split()

CONFIG = """\
vocabulary: {folder}/vocabulary.txt
text: {{inputs: ["{folder}/captions.txt"], spacy_model: rules}}
images: {{inputs: ["{folder}/photos/*.jpg"], detector: demo, score_threshold: 0.5, device: cpu}}
bank: {{max_patches_per_concept: {patches}}}
"""


def write_corpora(folder: Path, photos: int, texts: int, workers: int, patches: int = 200) -> Path:
    """Write the corpora and their config; returns the config's path."""
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    (folder / "vocabulary.txt").write_text(vocabulary(), encoding="utf-8")
    if not (folder / "captions.txt").exists():
        with open(folder / "captions.txt.part", "w", encoding="utf-8") as file:
            file.writelines(f"{text}\n" for text in islice(_texts(), texts))
        (folder / "captions.txt.part").rename(folder / "captions.txt")
    known = {path.name for path in (folder / "photos").iterdir()}
    numbers = [number for number in range(photos) if f"scene-{number:06d}.jpg" not in known]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        # The drawn ones first; the others are made from them.
        for part in (range(DRAWN_PHOTOS), range(DRAWN_PHOTOS, photos)):
            work = partial(_write_photo, folder / "photos")
            for _ in pool.map(work, (number for number in numbers if number in part), chunksize=64):
                pass
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(folder=folder, patches=patches), encoding="utf-8")
    return config


def _texts() -> Iterator[str]:
    drawn = [caption.text for caption in sentences(0, SENTENCES, DRAWN_SENTENCES)]
    yield from drawn
    number = len(drawn)
    while True:
        text = drawn[number % len(drawn)]
        random = generator(0, "opening", number)
        month, year, hour, minute = (int(random.integers(top)) for top in (12, 120, 24, 60))
        yield f"{MONTHS[month]} {1900 + year}, {hour}:{minute:02d}: {text}"
        number += 1


def _write_photo(folder: Path, number: int) -> None:
    if number < DRAWN_PHOTOS:
        _draw(0, PHOTOS, number, folder)
        return
    random = generator(0, "variation", number)
    drawn = Image.open(folder / f"scene-{number % DRAWN_PHOTOS:06d}.jpg")
    left, top, right, bottom = (int(random.integers(20)) for _ in range(4))
    varied = drawn.crop((left, top, drawn.width - right, drawn.height - bottom)).resize(drawn.size)
    varied = ImageEnhance.Brightness(varied).enhance(float(random.uniform(0.8, 1.2)))
    noise = random.normal(0, 2, (drawn.height, drawn.width, 1))
    varied = Image.fromarray((np.asarray(varied) + noise).clip(0, 255).astype(np.uint8))
    varied.save(folder / f"scene-{number:06d}.jpg", quality=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sentences", type=int, required=True)
    parser.add_argument("--photos", type=int, required=True)
    parser.add_argument("--patches", type=int, default=200, help="bank.max_patches_per_concept")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    print(write_corpora(options.out.resolve(), options.photos, options.sentences, options.workers, options.patches))


if __name__ == "__main__":
    main()
