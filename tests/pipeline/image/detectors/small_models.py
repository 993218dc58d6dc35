"""What the tests of torchvision's models share."""

import numpy as np
import torch
from safetensors.torch import load_file
from torchvision.models import get_model

from vlmixer.pipeline.image.detectors.torchvision_models import fold_norms

FASTER = "fasterrcnn_mobilenet_v3_large_320_fpn"
SSD = "ssdlite320_mobilenet_v3_large"
CLASSES = ["__background__", "dog", "kite", "car"]
THRESHOLDS = {FASTER: 0.25, SSD: 0.1}


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def reference(weights, name):
    network = get_model(name, weights=None, weights_backbone=None, num_classes=len(CLASSES))
    network.load_state_dict(load_file(weights / f"{name}.safetensors"))
    (network.roi_heads if name == FASTER else network).score_thresh = THRESHOLDS[name]
    fold_norms(network.eval())
    return network.to(memory_format=torch.channels_last)


def equal(one, other):
    return all(np.array_equal(value, vars(other)[key]) for key, value in vars(one).items())


def close(one, other):
    """The same regions: arithmetic on several images at a time differs in the last digits, and so may the order."""
    assert len(one.scores) == len(other.scores) > 0
    distances = np.abs(one.boxes[:, None] - other.boxes).max(2) + 1000.0 * (one.labels[:, None] != other.labels)
    rows = distances.argmin(1)
    assert sorted(rows) == list(range(len(rows)))
    assert distances.min(1).max() < 1e-2
    assert np.allclose(one.scores, other.scores[rows], atol=1e-4)
    assert np.allclose(one.features, other.features[rows], atol=1e-2)
