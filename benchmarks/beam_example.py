"""Beam's published object-detection example, as detection.py compares the stage with it.

Every image is padded to one square, RunInference takes batches of 8, and boxes are written as JSON lines. There are no
features and no crops.
"""

import io
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import apache_beam as beam
import numpy as np
import torch
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.ml.inference.pytorch_inference import PytorchModelHandlerTensor
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from PIL import Image
from torchvision.models import get_model

from vlmixer.pipeline.config import ImageSettings


def run_beam_example(
    photos: Sequence[str], settings: ImageSettings, state: Path, square: int, network_size: int | None, threads: int
) -> None:
    """Run the example with a torchvision model.

    state: its weights; the detections are written next to it. square: side of the padded images, in pixels.
    network_size: the size to which the model scales its input; None for the model's own.
    """
    torch.set_num_threads(threads)
    name = settings.detector.partition(":")[2]
    handler = PytorchModelHandlerTensor(
        state_dict_path=str(state), model_class=make_model,
        model_params={"name": name, "size": network_size, "classes": 91},
        device="CPU", inference_fn=_infer, min_batch_size=8, max_batch_size=8,
    )  # fmt: skip
    options = PipelineOptions(["--direct_num_workers", "1"])
    with beam.Pipeline(runner=FnApiRunner(), options=options) as pipeline:
        (
            pipeline
            | beam.Create(photos)
            | beam.Reshuffle()
            | beam.ParDo(_Decode(square))
            | RunInference(KeyedModelHandler(handler))
            | beam.Map(_as_row, settings.score_threshold, settings.max_regions)
            | beam.io.WriteToText(str(state.with_name("detections")))
        )


def make_model(name: str, size: int | None, classes: int) -> torch.nn.Module:
    """A torchvision model without weights, which scales its input to `size` pixels."""
    sizes = {} if size is None else {"min_size": size, "max_size": size}
    return get_model(name, weights=None, weights_backbone=None, num_classes=classes, **sizes).eval()


class _Decode(beam.DoFn):
    """Read and decode a photo and pad it with black to a square."""

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


def _as_row(entry, threshold: float, most: int) -> str:  # type: ignore[no-untyped-def]
    path, result = entry
    found = getattr(result, "inference", result)
    kept = [row for row in range(len(found["scores"])) if found["scores"][row] >= threshold][:most]
    boxes = [[*found["boxes"][row].tolist(), float(found["scores"][row]), int(found["labels"][row])] for row in kept]
    return json.dumps({"image": path, "detections": boxes})
