"""How well region features tell classes apart, by detector and by encoder, on gold boxes.

    python benchmarks/region_features.py --data ../shared/data --encoder timm:efficientnet_lite0 --weights FILE

For each gold box of COCO128: whether the most similar box of another photo has the same class. Boxes have a shorter
side of 16 pixels at least. Expected in DIR: images/coco128, detectors/yolox_nano_with_fpn_feats.onnx.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.ops import roi_align

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports of `benchmarks` and `examples`

from benchmarks.gold import read_gold
from examples.yolox_onnx import STRIDES, YoloxOnnx

from vlmixer.pipeline.image.encoders.regions import load_encoder, unit

MIN_SIDE = 16


class GoldYolox(YoloxOnnx):
    """YOLOX's features of given boxes."""

    def of_boxes(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """(n, D) for boxes (n, 4) xyxy in pixels of the image."""
        height, width = image.shape[:2]
        ratio = min(self._height / height, self._width / width)
        inner = max(1, round(width * ratio)), max(1, round(height * ratio))
        canvas = np.full((self._height, self._width, 3), 114, np.uint8)
        canvas[: inner[1], : inner[0]] = Image.fromarray(image).resize(inner, Image.Resampling.BILINEAR)
        outputs = self._run(canvas)
        scaled = boxes * np.array([inner[0] / width, inner[1] / height] * 2, np.float32)
        regions = torch.from_numpy(scaled.astype(np.float32))
        maps = [torch.from_numpy(outputs[index]) for index in self._maps]
        pooled = [roi_align(m, [regions], 1, 1 / s, aligned=True) for m, s in zip(maps, STRIDES, strict=True)]
        found: np.ndarray = torch.cat(pooled, dim=1).flatten(1).numpy()
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--encoder", required=True, help="a part of images.features")
    parser.add_argument("--weights", help="of a model of timm")
    options = parser.parse_args()
    torch.set_num_threads(1)
    weights = {"weights": options.weights} if options.weights else {}
    yolox = GoldYolox(options.data / "detectors" / "yolox_nano_with_fpn_feats.onnx")
    encoders = {
        pooling: load_encoder(options.encoder, weights | {"pooling": pooling}, "cpu") for pooling in ("crop", "map")
    }
    features: dict[str, list[np.ndarray]] = {"yolox": [], **{pooling: [] for pooling in encoders}}
    seconds = dict.fromkeys(features, 0.0)
    labels: list[str] = []
    photos: list[str] = []
    for name, gold in sorted(read_gold(options.data / "images").by_photo.items()):
        if not name.startswith("coco128/"):
            continue
        path = options.data / "images" / "coco128" / "images" / name.partition("/")[2]
        image = np.asarray(Image.open(path).convert("RGB"))
        boxes = np.array([box for _, box in gold], np.float32).reshape(-1, 4) * np.array(image.shape[1::-1] * 2)
        large = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf) >= MIN_SIDE
        labels += [label for (label, _), keep in zip(gold, large, strict=True) if keep]
        photos += [name] * int(large.sum())
        ways = {"yolox": yolox.of_boxes} | {pooling: encoder.encode for pooling, encoder in encoders.items()}
        for way, encode in ways.items():
            start = time.perf_counter()
            if large.any():
                features[way].append(encode(image, boxes[large].astype(np.float32)))
            seconds[way] += time.perf_counter() - start
    owner, photo = np.array(labels), np.array(photos)
    found = {way: unit(np.concatenate(rows)) for way, rows in features.items()}
    found |= {f"yolox + {pooling}": np.concatenate([found["yolox"], found[pooling]], axis=1) for pooling in encoders}
    print(f"{len(owner)} boxes of {len(set(owner.tolist()))} classes in {len(set(photos))} photos")
    for way, rows in found.items():
        similar = rows @ rows.T
        similar[photo[:, None] == photo[None]] = -np.inf
        right = float((owner[similar.argmax(axis=1)] == owner).mean())
        took = f"{1000 * seconds[way] / len(owner):.0f} ms per box" if way in seconds else ""
        print(f"{way:<14}{rows.shape[1]:>6} wide  nearest of the same class {right:.3f}  {took}")


if __name__ == "__main__":
    main()
