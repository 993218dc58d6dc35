"""Whether numbers can be what they are said to be: finds features, scores and boxes of another type or unit."""

import numpy as np

from vlmixer.artifacts.boxes import MAX_SCORE

MIN_NUMBERS = 64
"""Fewer numbers are not judged."""
MAX_SPREAD = 5.5
"""Highest standard deviation of log2 of features. Features have 1 to 3; float16 read as float32 has 6 to 60, float64
has 50."""
MAX_SPREAD_HALF = 6.0
"""The same for features that were stored as float16, which has fewer exponents."""
MAX_SIDE = 1 << 30
"""Pixels of an image's width or height."""
DTYPES = {"float16": "<f2", "float32": "<f4", "float64": "<f8"}


def spread(features: np.ndarray) -> float:
    """Standard deviation of log2 of the numbers that are not 0; infinite if some are not finite, 0 if there are few."""
    values = _magnitudes(features.ravel())
    if not np.isfinite(values).all():
        return float("inf")
    values = values[values > 0]
    return float(np.log2(values).std()) if len(values) >= MIN_NUMBERS else 0.0


def _magnitudes(features: np.ndarray) -> np.ndarray:
    """|features| as float64. The bits of float32 are read as integers: a library may have switched subnormal numbers
    off in this process, and float16 read as float32 has many."""
    if features.dtype != np.float32:
        with np.errstate(all="ignore"):
            values: np.ndarray = np.abs(features.astype(np.float64))
        return values
    bits = np.ascontiguousarray(features).view(np.uint32) & 0x7FFFFFFF
    exponent, fraction = (bits >> 23).astype(np.int64), (bits & 0x7FFFFF).astype(np.float64)
    exact = np.where(exponent > 0, np.ldexp(fraction + (1 << 23), exponent - 150), np.ldexp(fraction, -149))
    return np.where(exponent == 255, np.inf, exact)


def wrong_features(data: bytes, dtype: str) -> str | None:
    """Why bytes cannot be features of this type, a key of DTYPES, and which type fits; None if they can."""
    if len(data) < MIN_NUMBERS * 8:
        return None
    spreads = {name: spread(np.frombuffer(data[: len(data) // 8 * 8], code)) for name, code in DTYPES.items()}
    if spreads[dtype] <= MAX_SPREAD:
        return None
    best = min(spreads, key=lambda name: spreads[name])
    if spreads[best] > MAX_SPREAD:
        # Features that are not finite may be this line's own fault, which others report.
        return None if np.isinf(spreads[dtype]) else f"read as {dtype}, the features are noise"
    return f"read as {dtype}, the features are noise; they look like {best}. Set images.detector_options.dtype: {best}"


def wrong_numbers(boxes: np.ndarray, scores: np.ndarray, width: int, height: int) -> str | None:
    """Why boxes (n, 4) and scores (n,) cannot be those of an image of this size in pixels; None if they can."""
    if min(width, height) < 1 or max(width, height) > MAX_SIDE:
        return f"an image of {width}×{height}"[:100]
    if not len(boxes):
        return None
    if not np.isfinite(boxes).all():
        return "boxes that are not finite"
    low, high = float(np.nanmin(scores)), float(np.nanmax(scores))
    if low < 0 or high > MAX_SCORE:
        return f"scores from {low:g} to {high:g}, expected 0 to 1"
    if boxes.max() <= 1 and min(width, height) > 2:
        return "boxes within 0 to 1, expected pixels; multiply them by the image's width and height"
    turned = int(((boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1])).sum())
    if turned:
        return f"{turned} boxes end before they begin; expected x1, y1, x2, y2, not x, y, width, height"
    if boxes[:, 0::2].max() > width * 1.1 + 2 or boxes[:, 1::2].max() > height * 1.1 + 2:
        reach = f"{boxes[:, 0::2].max():.0f}×{boxes[:, 1::2].max():.0f}"
        return f"boxes reach to {reach}, the image has {width}×{height}; are its width and height exchanged?"
    return None
