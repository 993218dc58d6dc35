"""Small torchvision models with random weights, on one thread."""

import pytest
import torch
from safetensors.torch import save_file
from tests.pipeline.image.detectors.small_models import CLASSES, FASTER, SSD, THRESHOLDS
from torchvision.models import get_model

from vlmixer.pipeline.image.detectors.torchvision_models import TorchvisionDetector


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    for name in (FASTER, SSD):
        torch.manual_seed(0)
        network = get_model(name, weights=None, weights_backbone=None, num_classes=len(CLASSES))
        save_file(network.state_dict(), folder / f"{name}.safetensors")
    return folder


@pytest.fixture(scope="module")
def make(weights):
    def make(name):
        path = str(weights / f"{name}.safetensors")
        return TorchvisionDetector(name, path, score_threshold=THRESHOLDS[name], classes=CLASSES)

    return make
