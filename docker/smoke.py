"""Loads everything that the image is for: detectron2 with its operators, torch, the spaCy pipelines."""

import importlib.metadata
import shutil

import apache_beam
import detectron2._C
import spacy
import torch
import torchvision.ops
from detectron2 import model_zoo

from vlmixer.pipeline.jobs.dataflow import main

boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 8.0, 7.0]])
assert torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.5).tolist() == [0]
assert callable(main)
assert shutil.which("vlmixer")
model_zoo.get_config("COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml")
pipelines = spacy.util.get_installed_models()
assert pipelines, "no spaCy pipeline"
for name in pipelines:
    assert spacy.load(name)("Two dogs run.")[1].pos_ == "NOUN", name
print(
    f"beam {apache_beam.__version__}, torch {torch.__version__} (CUDA {torch.version.cuda}), "
    f"detectron2 {importlib.metadata.version('detectron2')} ({detectron2._C.get_compiler_version()}, "
    f"CUDA: {detectron2._C.has_cuda()}), spaCy: {', '.join(pipelines)}"
)
