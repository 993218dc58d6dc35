"""Trains the drawn world's detector: `python -m vlmixer.pipeline.demo.train_detector --out FILE`.

Draws scenes of its own (none of them is in a demo's world), trains from scratch on the CPU, and prints the mean average
precision on held-out scenes. `--evaluate-only` measures an existing file.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models.detection import FasterRCNN
from tqdm import tqdm

from vlmixer.artifacts.rng import generator
from vlmixer.pipeline.demo.categories import INDEX
from vlmixer.pipeline.demo.detector import SHORTER_SIDE, DemoDetector, build_network, resize
from vlmixer.pipeline.demo.scenes import CANVAS, draw_scene, plan_scene
from vlmixer.pipeline.demo.scoring import mean_average_precision

TRAINING, HELD_OUT = "detector-training", "detector-held-out"
"""The splits of scenes for the detector alone."""

Drawn = tuple[np.ndarray, np.ndarray, np.ndarray]
"""A picture, RGB uint8 (CANVAS, CANVAS, 3), with its things' boxes (n, 4) float32 and category indices (n,) int64."""


def drawn_scene(seed: int, split: str, index: int) -> Drawn:
    """One scene with its gold boxes."""
    scene = plan_scene(seed, split, index)
    picture, boxes = draw_scene(scene)
    return np.asarray(picture), boxes, np.array([INDEX[thing.kind] for thing in scene.things], np.int64)


def _training_scene(seed: int, index: int) -> Drawn:
    picture, boxes, labels = drawn_scene(seed, TRAINING, index)
    return resize(picture), boxes * np.float32(SHORTER_SIDE / CANVAS), labels


def draw_training_scenes(seed: int, count: int, processes: int) -> list[Drawn]:
    """Training scenes at the network's input size (77 kB each), all in memory: drawing takes longer than training."""
    draw = partial(_training_scene, seed)
    with ProcessPoolExecutor(processes) as pool:
        return list(tqdm(pool.map(draw, range(count), chunksize=64), "drawing", count, disable=None))


def _batch(
    scenes: list[Drawn], chosen: np.ndarray, random: np.random.Generator
) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """The chosen scenes as the network's input, half of them mirrored, all with random brightness and contrast."""
    images, targets = [], []
    for index in chosen:
        picture, boxes, labels = scenes[index]
        if random.random() < 0.5:
            picture = picture[:, ::-1]
            boxes = boxes.copy()
            boxes[:, [0, 2]] = SHORTER_SIDE - boxes[:, [2, 0]]
        image = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))).float() / 255
        image = (image - 0.5) * random.uniform(0.85, 1.15) + 0.5 + random.uniform(-0.08, 0.08)
        images.append(image.clamp_(0, 1))
        targets.append({"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(labels + 1)})
    return images, targets


def save(network: FasterRCNN, path: Path) -> None:
    """Writes the weights in half precision."""
    state = {name: value.half() if value.is_floating_point() else value for name, value in network.state_dict().items()}
    save_file({name: value.contiguous() for name, value in state.items()}, path)


def train(scenes: list[Drawn], out: Path, *, steps: int, batch_size: int, rate: float, seed: int) -> None:
    """Trains a new network for `steps` batches and writes it to `out`, also every 250 steps on the way."""
    torch.manual_seed(seed)
    random = generator(seed, "train-detector")
    network = build_network().train()
    network.backbone.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-3)

    def learning_rate(step: int) -> float:
        return min((step + 1) / 200, 0.5 + 0.5 * math.cos(math.pi * step / steps))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate)
    order = np.zeros(0, np.int64)
    running: float | None = None
    bar = tqdm(range(steps), "training", disable=None)
    for step in bar:
        if len(order) < batch_size:
            order = np.concatenate([order, random.permutation(len(scenes))])
        chosen, order = order[:batch_size], order[batch_size:]
        losses = network(*_batch(scenes, chosen, random))
        loss = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        if (step + 1) % 250 == 0 or step + 1 == steps:
            save(network, out)
            bar.write(f"step {step + 1} loss {running:.3f}", file=sys.stderr)


def evaluate(weights: Path | None, seed: int, count: int) -> float:
    """Prints and returns the detector's mAP50 on `count` held-out scenes."""
    path = str(weights) if weights else None
    scenes = [drawn_scene(seed, HELD_OUT, index) for index in range(count)]
    gold = [(boxes, labels) for _, boxes, labels in scenes]
    detector = DemoDetector(path, score_threshold=0.05)
    start = time.perf_counter()
    found = [detector.detect([picture])[0] for picture, _, _ in scenes]
    speed = count / (time.perf_counter() - start)
    all_found = [(each.boxes, each.scores, each.labels) for each in found]
    score, by_label = mean_average_precision(all_found, gold)
    for label, value in sorted(by_label.items(), key=lambda item: item[1]):
        print(f"{detector.labels[label]:>18} {value:.3f}")
    print(f"mAP50 {score:.4f} on {count} held-out scenes, {speed:.0f} images/s on {torch.get_num_threads()} thread(s)")
    return score


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, help="safetensors file to write, or to read with --evaluate-only")
    parser.add_argument("--images", type=int, default=14_000, help="number of training scenes")
    parser.add_argument("--steps", type=int, default=2_200, help="number of batches")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="number of threads, and of processes that draw")
    parser.add_argument(
        "--evaluate-only", action="store_true", help="only measure --out (default: the weights that ship)"
    )
    parser.add_argument("--held-out", type=int, default=1_000, help="number of scenes to measure on")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    if not options.evaluate_only:
        if options.out is None:
            parser.error("--out FILE is needed to train")
        scenes = draw_training_scenes(options.seed, options.images, options.threads)
        train(
            scenes,
            options.out,
            steps=options.steps,
            batch_size=options.batch_size,
            rate=options.rate,
            seed=options.seed,
        )
    evaluate(options.out, options.seed, options.held_out)


if __name__ == "__main__":
    main()
