"""Checks that a detector keeps the contract. Its author calls `check_detector(detector)` in a test, or runs

    python -m vlmixer.pipeline.image.detectors.contract my_detector:Mine [--weights FILE] [--option KEY=VALUE]...
        [PHOTO...]

It needs no test framework. A violation is an AssertionError that says what was expected.
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from vlmixer.artifacts.errors import UserError
from vlmixer.pipeline.image.detectors.base import Detections, Detector

SIZES = ((64, 96), (96, 64), (33, 47), (1, 1), (1, 200), (300, 2))
"""Height and width of the synthetic pictures: upright, wide, odd, and as thin as photos sometimes are."""


def synthetic_pictures(seed: int = 0) -> list[np.ndarray]:
    """Noise in all SIZES, coloured blocks, plain black and plain white."""
    rng = np.random.default_rng(seed)
    pictures = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
    for height, width in ((64, 96), (48, 48)):
        blocks = np.repeat(np.repeat(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8), height // 4, 0), width // 4, 1)
        pictures.append(blocks)
    return [*pictures, np.zeros((40, 60, 3), np.uint8), np.full((40, 60, 3), 255, np.uint8)]


def check_detector(detector: Detector, photos: Sequence[np.ndarray] = (), *, expect_regions: bool | None = None) -> int:
    """Check the detector on synthetic pictures and on `photos` (RGB, uint8). Returns the number of regions found.

    Checks labels and feature_dim. For every image, checks shapes, dtypes and values of boxes, scores, labels and
    features; that boxes are inside the image with x1 <= x2 and y1 <= y2; that the image is not changed, and may be
    read-only; that its result does not depend on its neighbours, their order, or earlier calls. An empty list must give
    an empty list. If there are photos, the detector must not raise for any, and must find at least one region in them
    (`expect_regions=False` allows none). Synthetic pictures for which it raises are skipped, at most half of all.

    Raises AssertionError.
    """
    labels = list(detector.labels)
    _require(len(labels) > 0, "labels: expected at least one name")
    _require(all(isinstance(label, str) for label in labels), f"labels: expected text, found {labels[:5]}")
    dim = detector.feature_dim
    _require(isinstance(dim, int) and dim > 0, f"feature_dim: expected a positive int, found {dim!r}")
    _require(list(detector.detect([])) == [], "detect([]): expected []")

    given = [*synthetic_pictures(), *photos]
    images, alone = [], []
    for image in given:
        before = image.copy()
        fixed = image.view()
        fixed.flags.writeable = False
        try:
            results = list(detector.detect([fixed]))
        except UserError:
            raise
        except Exception as error:
            _require(not any(image is photo for photo in photos), f"a photo of {image.shape} raised {error!r}")
            continue  # The pipeline rejects such an image and continues.
        _require(len(results) == 1, f"detect of one image gave {len(results)} results")
        _require(np.array_equal(before, image), "detect changed the image that it was given")
        _check_result(results[0], image, len(labels), dim)
        images.append(image)
        alone.append(results[0])
    _require(len(images) >= len(given) / 2, f"detect raised for {len(given) - len(images)} of {len(given)} images")

    for order in (range(len(images)), reversed(range(len(images)))):
        rows = list(order)
        together = list(detector.detect([images[row] for row in rows]))
        _require(len(together) == len(rows), f"detect of {len(rows)} images gave {len(together)} results")
        for row, result in zip(rows, together, strict=True):
            for name, value in vars(alone[row]).items():
                _require(
                    np.array_equal(value, vars(result)[name]),
                    f"{name} of an image of {images[row].shape} differ from those of the image alone",
                )
    found = sum(len(result.scores) for result in alone)
    in_photos = sum(
        len(result.scores)
        for image, result in zip(images, alone, strict=True)
        if any(image is photo for photo in photos)
    )
    if expect_regions or (expect_regions is None and photos):
        _require(
            in_photos > 0, "no region was found in the photos. Give photos that show objects of the detector's classes"
        )
    return found


def _check_result(found: Detections, image: np.ndarray, labels: int, dim: int) -> None:
    where = f"for an image of {image.shape}"
    count = len(found.scores)
    for name, shape, dtype in (
        ("boxes", (count, 4), np.float32), ("scores", (count,), np.float32), ("labels", (count,), np.int64),
        ("features", (count, dim), np.float32),
    ):  # fmt: skip
        value = getattr(found, name)
        _require(isinstance(value, np.ndarray), f"{name} {where}: expected an array, found {type(value).__name__}")
        _require(value.shape == shape, f"{name} {where}: expected shape {shape}, found {value.shape}")
        _require(value.dtype == dtype, f"{name} {where}: expected {np.dtype(dtype).name}, found {value.dtype}")
    if not count:
        return
    height, width = image.shape[:2]
    left, top, right, bottom = found.boxes.T
    _require(bool(np.isfinite(found.boxes).all()), f"boxes {where}: not finite")
    _require(bool((left <= right).all() and (top <= bottom).all()), f"boxes {where}: expected x1 <= x2 and y1 <= y2")
    # One pixel of tolerance: the pipeline clips boxes, but coordinates of another image or scale are a mistake.
    inside = (left >= -1) & (top >= -1) & (right <= width + 1) & (bottom <= height + 1)
    _require(bool(inside.all()), f"boxes {where}: outside the image, such as {found.boxes[~inside][:1].tolist()}")
    _require(bool(((found.scores >= 0) & (found.scores <= 1)).all()), f"scores {where}: expected 0 to 1")
    _require(found.labels.min() >= 0 and found.labels.max() < labels, f"labels {where}: expected 0 … {labels - 1}")
    largest = float(np.abs(found.features).max())
    _require(largest <= 65_504, f"features {where}: expected values that float16 holds, found {largest}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the detector that the arguments name. Returns the exit code."""
    from vlmixer.artifacts.settings import override
    from vlmixer.pipeline.image.decoding import ImageRejected, decode
    from vlmixer.pipeline.image.detectors.loading import DetectorSpec, load_detector

    parser = argparse.ArgumentParser(description="Check that a detector keeps the pipeline's contract.")
    parser.add_argument("detector", help="as images.detector in a config, such as my_detector:MyDetector")
    parser.add_argument("photos", nargs="*", metavar="PHOTO")
    parser.add_argument("--weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--score-threshold", type=float, default=0.3)
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="as detector_options")
    options = parser.parse_intermixed_args(arguments)
    try:
        spec = DetectorSpec(
            options.detector, options.weights, options.device, options.score_threshold,
            override({}, options.option), (".",),
        )  # fmt: skip
        photos = []
        for path in options.photos:
            with open(path, "rb") as file:
                photos.append(decode(file.read(), max_pixels=1e8))
        detector = load_detector(spec)
        regions = check_detector(detector, photos)
    except (AssertionError, UserError, ImageRejected, OSError) as error:
        print(f"{options.detector}: {error}", file=sys.stderr)
        return 1
    print(
        f"{options.detector}: keeps the contract; {regions} regions in {len(photos)} photos and "
        f"{len(synthetic_pictures())} synthetic pictures"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
