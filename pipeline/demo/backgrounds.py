"""The places of the drawn world: painted once per process, a little larger than a scene, which shows a part of them.

What is painted here is scenery and belongs to no category.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from vlmixer.pipeline.demo.drawings.canvas import SIDE, Background, Canvas
from vlmixer.pipeline.demo.drawings.nature import NATURE
from vlmixer.pipeline.demo.drawings.town import TOWN

__all__ = ["SIDE", "VARIANTS", "Background", "background"]

VARIANTS = 6
PAINTERS = {**NATURE, **TOWN}


@cache
def background(name: str, variant: int) -> Background:
    """A painted place. `name` is one of `categories.BACKGROUNDS`, `variant` is below VARIANTS.

    All callers share its image. Do not change it in place.
    """
    # As with sprites: places are part of the program, so their seed is fixed.
    random = np.random.default_rng([variant, *name.encode()])
    return PAINTERS[name](Canvas(), random)
