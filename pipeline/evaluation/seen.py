"""Whether a run was trained on the images that it is tested on: looks for their regions in OUT/regions.

The same picture gives the same regions with the same detector, whatever its file is called.
"""

from collections.abc import Mapping

import numpy as np

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.parquet import reading
from vlmixer.artifacts.progress import shown
from vlmixer.artifacts.schemas import regions_as_wide_as
from vlmixer.artifacts.stages import DETECT
from vlmixer.model.embedding import ImageRegions

Key = tuple[int, int, bytes]
"""Width, height and the box of the best region: cheap to read. Images that agree here are compared by feature."""


def trained_on(run: str, images: Mapping[str, ImageRegions]) -> list[str]:
    """The paths of those images whose best region is among the regions next to the run. Empty if there are none."""
    folder = files.join(files.parent(files.absolute(run)), DETECT.folder)
    if not files.exists(files.join(folder, manifest.NAME)):
        return []
    wanted: dict[Key, list[str]] = {}
    for path, image in images.items():
        if len(image.boxes):
            wanted.setdefault(_key(image.width, image.height, image.boxes[0]), []).append(path)
    parts = [output.name for output in manifest.read(folder, DETECT).parts]
    found: set[str] = set()
    for name in shown(parts, len(parts), "eval: compare with the training images", "files"):
        with reading(files.join(folder, name), regions_as_wide_as) as table:
            for group in range(len(table.row_groups)):
                rows = table.read_row_group(group, ["image_id", "width", "height", "box"])
                boxes = rows["box"].combine_chunks().values.to_numpy().reshape(-1, 4)
                columns = [rows[name].to_pylist() for name in ("image_id", "width", "height")]
                before = None
                for row, (identity, width, height) in enumerate(zip(*columns, strict=True)):
                    if identity != before and (paths := wanted.get(_key(width, height, boxes[row]))):
                        feature = np.array(table.read_row_group(group, ["feature"])["feature"][row].as_py(), np.float16)
                        found |= {path for path in paths if np.array_equal(images[path].features[0], feature)}
                    before = identity
    return [path for path in images if path in found]


def _key(width: int, height: int, box: np.ndarray) -> Key:
    return width, height, np.asarray(box, np.float32).tobytes()
