"""Drawn photos of coloured things, a detector of them, and a small CLIP that is trained on them in seconds."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image, ImageDraw
from tests.pipeline.image.detectors.small_open import clip_tokenizer

from vlmixer.pipeline.image.encoders.regions import around, warped

COLOURS = {"red": (220, 40, 40), "green": (40, 190, 60), "blue": (50, 70, 220), "yellow": (230, 210, 40)}
THINGS = ("car", "ball")
PAIRS = [(colour, thing) for colour in COLOURS for thing in THINGS]
STEPS = 60

DETECTOR = """
    import numpy as np
    from vlmixer.pipeline.image.detectors.base import Detections

    class Things:
        '''The one thing of a photo, which differs from the colour of its first pixel. Only balls have no wheels.'''

        labels = ("car", "ball")
        feature_dim = 3

        def __init__(self, weights, device, score_threshold):
            pass

        def detect(self, images):
            return [self.one(image) for image in images]

        def one(self, image):
            differs = np.abs(image.astype(int) - image[0, 0]).max(2) > 40
            rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
            box = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], np.float32)
            dark = (image.max(2) < 40).sum() > 5
            size = (box[0, 2:] - box[0, :2]) / 64
            return Detections(
                box, np.ones(1, np.float32), np.array([0 if dark else 1]), np.array([[*size, 1.0]], np.float32)
            )
"""


def draw(rng: np.random.Generator, colour: str, thing: str) -> tuple[Image.Image, np.ndarray]:
    """A photo of 64×64 pixels of one thing on grey, and its box."""
    photo = Image.new("RGB", (64, 64), (int(rng.integers(90, 130)),) * 3)
    pen = ImageDraw.Draw(photo)
    size = int(rng.integers(24, 36))
    x, y = (int(value) for value in rng.integers(4, 60 - size, 2))
    fill = tuple(int(np.clip(value + rng.integers(-15, 16), 0, 255)) for value in COLOURS[colour])
    if thing == "ball":
        pen.ellipse([x, y, x + size, y + size], fill=fill)
        return photo, np.array([x, y, x + size, y + size], np.float32)
    height = size // 2
    pen.rectangle([x, y + height // 3, x + size, y + height], fill=fill)
    pen.rectangle([x + size // 4, y, x + 3 * size // 4, y + height // 2], fill=fill)
    for wheel in (x + size // 4, x + 3 * size // 4):
        pen.ellipse([wheel - 4, y + height - 4, wheel + 4, y + height + 4], fill=(15, 15, 15))
    return photo, np.array([x, y, x + size, y + height + 4], np.float32)


def write_trained_clip(folder: Path) -> Path:
    """A CLIP of 50,000 parameters that tells coloured things apart, and its files."""
    from vlmixer.pipeline.image.detectors.transformers_folder import quiet

    tokenizer = clip_tokenizer()
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {key: getattr(tokenizer, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    text = {**tower, **ids, "vocab_size": len(tokenizer), "max_position_embeddings": 20}
    config = transformers.CLIPConfig(
        text_config=text, vision_config={**tower, "image_size": 32, "patch_size": 8}, projection_dim=16
    )
    torch.manual_seed(0)
    network: Any = transformers.CLIPModel(config)
    size = {"height": 32, "width": 32}
    images: Any = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size)
    tokens = tokenizer([f"a {colour} {thing}" for colour, thing in PAIRS], padding=True, return_tensors="pt")
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        drawn = [draw(rng, colour, thing) for _ in range(3) for colour, thing in PAIRS]
        crops = [warped(photo, around(box), 32) for photo, box in drawn]
        pixels = images(crops, do_resize=False, return_tensors="pt")["pixel_values"]
        seen = network.get_image_features(pixel_values=pixels).pooler_output
        read = network.get_text_features(**tokens).pooler_output
        similar = torch.nn.functional.normalize(seen) @ torch.nn.functional.normalize(read).T
        loss = torch.nn.functional.cross_entropy(10 * similar, torch.arange(len(PAIRS)).repeat(3))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with quiet():
        network.save_pretrained(folder)
        transformers.CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def write_photos(folder: Path, each: int) -> None:
    """Photos of every coloured thing, `each` of them, named after what they show; and the detector's module beside."""
    (folder / "photos").mkdir(parents=True)
    rng = np.random.default_rng(1)
    for colour, thing in PAIRS:
        for number in range(each):
            photo, _ = draw(rng, colour, thing)
            photo.save(folder / "photos" / f"{colour}-{thing}-{number}.png")
    (folder / "things.py").write_text(textwrap.dedent(DETECTOR))
