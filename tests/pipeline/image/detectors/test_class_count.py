"""A wrong number of classes in weights for detectron2 is named as such. The networks only have what is looked at."""

from pathlib import Path

import pytest
from safetensors.torch import save_file
from torch import nn

from vlmixer.artifacts.errors import UserError
from vlmixer.pipeline.image.detectors.detectron2_config import load_weights

ANCHORS = 9


class Heads(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.num_classes = classes
        self.cls_score = nn.Linear(4, classes + 1)


class GeneralizedRCNN(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.roi_heads = Heads(classes)


class RetinaNet(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.num_classes = classes
        self.cls_score = nn.Conv2d(4, ANCHORS * classes, 3)


@pytest.mark.parametrize(("kind", "key"), [(GeneralizedRCNN, "ROI_HEADS"), (RetinaNet, "RETINANET")])
def test_the_numbers_and_the_key_are_named(kind: type[nn.Module], key: str, tmp_path: Path) -> None:
    path = str(tmp_path / "weights.safetensors")
    save_file(kind(3).state_dict(), path)
    with pytest.raises(UserError) as raised:
        load_weights(kind(80), path, "", "c.yaml", allow_pickle=False)
    assert str(raised.value).startswith(f"images.weights: {path} has 3 classes, c.yaml has 80. ")
    assert f"[MODEL.{key}.NUM_CLASSES, 3]" in str(raised.value)
    load_weights(kind(3), path, "", "c.yaml", allow_pickle=False)
