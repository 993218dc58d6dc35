"""A toy world for the tests of model/: concepts are directions in feature space, sentences come from a template."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.details import ShardsDetails
from vlmixer.artifacts.manifest import Manifest
from vlmixer.artifacts.rng import generator
from vlmixer.artifacts.samples import ImageSample, Mention, MixedSample, Patch, Sample, write_shard

CONCEPTS = (
    "dog", "cat", "kite", "boat", "hot air balloon", "tree", "car", "house", "traffic light", "bird", "apple", "chair"
)  # fmt: skip
COLOURS = ("red", "green", "blue", "old", "tiny")
VERBS = ("near", "behind", "above", "beside")
FEATURE_DIM = 16
SIDE = 100


@dataclass(frozen=True)
class Scene:
    """A true pair, for evaluation: regions (concept numbers, features, boxes) and a caption."""

    concepts: tuple[int, ...]
    features: np.ndarray
    boxes: np.ndarray
    caption: str


class World:
    """Prototypes of the concepts, and noisy regions and sentences of them, all from a seed."""

    def __init__(self, seed: int = 0, noise: float = 0.5) -> None:
        self._seed, self._noise = seed, noise
        self._prototypes = generator(seed, "prototypes").normal(size=(len(CONCEPTS), FEATURE_DIM))

    def features(self, concepts: Sequence[int], random: np.random.Generator) -> np.ndarray:
        """(n, FEATURE_DIM) float16, a noisy region of each concept."""
        noise = random.normal(size=(len(concepts), FEATURE_DIM))
        return (self._prototypes[list(concepts)] + self._noise * noise).astype(np.float16)

    def sentence(self, concepts: Sequence[int], random: np.random.Generator) -> tuple[str, tuple[Mention, ...]]:
        """A sentence that mentions the concepts in this order."""
        text, mentions = "", []
        for number in concepts:
            text += f" {random.choice(VERBS)} a " if text else "a "
            text += f"{random.choice(COLOURS)} "
            name = CONCEPTS[number]
            mentions.append(Mention(len(text), len(text) + len(name), name, name, name))
            text += name
        return text, tuple(mentions)

    def mixed(self, number: int) -> MixedSample:
        """A mixed sample: two or three mentions, each replaced with probability a half, at least one."""
        random = generator(self._seed, "mixed", number)
        concepts = [int(c) for c in random.choice(len(CONCEPTS), random.integers(2, 4), replace=False)]
        text, mentions = self.sentence(concepts, random)
        replaced = [i for i in range(len(concepts)) if random.random() < 0.5] or [0]
        patches = tuple(patch(CONCEPTS[concepts[i]], f"{number}-{i}", mention=i) for i in replaced)
        features = self.features([concepts[i] for i in replaced], random)
        return MixedSample(f"m{number:06d}", f"s{number}", 0, text, mentions, tuple(replaced), patches, features)

    def image(self, number: int) -> ImageSample:
        """An image sample of one to four regions."""
        random = generator(self._seed, "image", number)
        concepts = [int(c) for c in random.choice(len(CONCEPTS), random.integers(1, 5), replace=False)]
        names = tuple(CONCEPTS[c] for c in concepts)
        patches = tuple(patch(name, f"{number}-{i}") for i, name in enumerate(names))
        features = self.features(concepts, random)
        return ImageSample(f"i{number:06d}", f"p{number}", "toy", SIDE, SIDE, names, patches, features)

    def scene(self, number: int) -> Scene:
        """A true pair of three regions and a caption that names them."""
        random = generator(self._seed, "scene", number)
        concepts = tuple(int(c) for c in random.choice(len(CONCEPTS), 3, replace=False))
        boxes = np.array([patch("", "").box] * 3, np.float32)
        return Scene(concepts, self.features(concepts, random), boxes, self.sentence(concepts, random)[0])


def patch(concept: str, name: str, mention: int | None = None) -> Patch:
    """A patch in the middle of an image of SIDE × SIDE pixels."""
    box = (25.0, 25.0, 75.0, 75.0)
    return Patch(mention, f"patch-{name}", f"image-{name}", concept, 0.9, box, SIDE, SIDE)


def write_shards(folder: str, samples: Sequence[Sample], per_shard: int = 100, feature_dim: int = FEATURE_DIM) -> str:
    """Shards of `samples` with their manifest, as the mix stage leaves them; returns the folder."""
    os.makedirs(folder, exist_ok=True)
    outputs = []
    for kind, start in ((MixedSample, "mixed"), (ImageSample, "images")):
        chosen = [sample for sample in samples if isinstance(sample, kind)]
        for first in range(0, len(chosen), per_shard):
            name = f"{start}-{first // per_shard:06d}.tar"
            with files.publishing(files.join(folder, name)) as file:
                rows = write_shard(file, chosen[first : first + per_shard])
            outputs.append(manifest.output_of(folder, name, rows))
    details = ShardsDetails(
        feature_dim=feature_dim,
        concepts=tuple(CONCEPTS),
        vocabulary="toy",
        vocabulary_hash="-",
        detector="toy",
        bank="-",
        replaced={},
        seed=0,
        settings={},
    )
    content = Manifest(
        stage="mix", config_hash="-", plan_hash="-", versions={}, inputs=[], outputs=outputs, rejects=[], counts={},
        details=details,
    )  # fmt: skip
    manifest.publish(folder, content)
    return folder
