"""`vlmixer demo`: draws a world, runs every stage on it, trains, evaluates, and writes a page about all of it."""

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from vlmixer.artifacts import files, manifest, stages
from vlmixer.artifacts.lock import locked
from vlmixer.model.config import ModelConfig, Settings, TrainConfig
from vlmixer.model.scoring import RetrievalReport
from vlmixer.model.training import train
from vlmixer.pipeline.config import BankSettings, Config, ImageSettings, MixSettings, TextSettings
from vlmixer.pipeline.demo.world import write_world
from vlmixer.pipeline.evaluation.ablation import VARIANTS, run_variant, table
from vlmixer.pipeline.evaluation.pairs import read_pairs
from vlmixer.pipeline.evaluation.retrieval import evaluate_retrieval
from vlmixer.pipeline.jobs.chain import import_early, run_stages
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.planning.timings import Planned, Timings, plan_apart
from vlmixer.pipeline.report.demo.page import gather, write_report
from vlmixer.pipeline.text.tagger import RULES

LOG = logging.getLogger("vlmixer")

EVIDENCE_SEEDS = 3
WORLD = "world"
PAIRS = f"{WORLD}/pairs/captions.jsonl"
PAGE = "report.html"


@dataclass(frozen=True)
class DemoSize:
    """How much is drawn, and how long the training is."""

    photos: int = 1500
    sentences: int = 20_000
    pairs: int = 200
    train_steps: int = 100


FULL = DemoSize()
SMALL = DemoSize(photos=80, sentences=1000, pairs=20, train_steps=10)


def demo_config(seed: int, size: DemoSize = FULL) -> Config:
    """The demo's config; its paths are relative to the demo's folder."""
    return Config(
        seed=seed,
        out=".",
        vocabulary=f"{WORLD}/vocabulary.txt",
        text=TextSettings(inputs=(f"{WORLD}/captions.txt",), spacy_model=RULES),
        images=ImageSettings(inputs=(f"{WORLD}/photos/*.jpg",), detector="demo", score_threshold=0.5, device="cpu"),
        bank=BankSettings(max_patches_per_concept=200),
        mix=MixSettings(),
        model=ModelConfig(),
        # R@10 is one point below that of 200 steps with the defaults (ours, three seeds).
        train=TrainConfig(
            steps=size.train_steps, warmup_steps=round(0.3 * size.train_steps), learning_rate=2e-3, device="cpu"
        ),
    )


@dataclass(frozen=True)
class Done:
    """What the demo has made: the table of scores, the path of the page, and what was planned, by stage."""

    scores: str
    page: str
    planned: dict[str, Planned]


def run_demo(
    out: str,
    *,
    seed: int,
    engine: Engine,
    timings: Timings,
    plans: bool = False,
    evidence: bool = False,
    size: DemoSize = FULL,
) -> Done:
    """Run everything into the folder `out`.

    timings: gets the steps. plans: also plan the stages before they run. With `evidence` the table compares the method
    with variants that lack parts of it, over three seeds. A rerun resumes a demo that was stopped. Raises UserError if
    the folder holds the demo of another seed.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    # Relative paths keep the photos' names, and with them all bytes of the results, the same in any folder.
    with contextlib.chdir(folder), locked("logs"):
        config = demo_config(seed, size)
        files.publish_bytes("demo.yaml", config.to_yaml().encode())
        import_early(config, stages.NAMES, engine)
        with _step("draw a world"), timings.step("draw"):
            _draw_world(seed, size, engine.workers)
        planned: dict[str, Planned] = {}
        if plans:
            with timings.left_out():
                planned = plan_apart(["demo.yaml", "--out", "."], engine.workers)
        with _step("tag, detect, index, mix"):
            run_stages(config, stages.NAMES, engine, overwrite=False, import_paths=(), step=timings.step)
        with _step("train a model"), timings.step("train"):
            _train(config)
        with timings.step("evaluate"):
            report = evaluate_retrieval("run", read_pairs(PAIRS), config, import_paths=()).report
            files.publish_bytes("scores.json", manifest.canonical(report.to_json(), indent=1))
        with timings.step("write the page"):
            write_report(PAGE, gather(".", WORLD, report.to_json(), seed))
        shown = _evidence(config) if evidence else report.to_table()
        return Done(shown, str(folder / PAGE), planned)


@contextlib.contextmanager
def _step(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    LOG.info("[%s: %.0f s]", what, time.monotonic() - began)


def _draw_world(seed: int, size: DemoSize, workers: int) -> None:
    done = Path(WORLD, "drawn.json")
    amounts = {"photos": size.photos, "sentences": size.sentences, "pairs": size.pairs}
    wanted = manifest.canonical({"seed": seed, **amounts})
    if not done.exists() or done.read_bytes() != wanted:
        write_world(Path(WORLD), seed=seed, workers=workers, **amounts)
        files.publish_bytes(str(done), wanted)


def _evidence(config: Config) -> str:
    assert config.train is not None
    torch.set_num_threads(os.cpu_count() or 1)
    reports: dict[str, list[RetrievalReport]] = {}
    pairs = read_pairs(PAIRS)
    for seed in range(config.seed, config.seed + EVIDENCE_SEEDS):
        for name in VARIANTS:
            run = run_variant(name, Settings(seed, config.out, model=config.model, train=config.train))
            report = evaluate_retrieval(run, pairs, config, import_paths=()).report
            reports.setdefault(name, []).append(report)
    text = table(reports, [], f"The drawn world of seed {config.seed}, {config.train.steps} steps.")
    files.publish_bytes("evidence.md", text.encode())
    return text


def _train(config: Config) -> None:
    assert config.train is not None
    torch.set_num_threads(os.cpu_count() or 1)
    settings = Settings(seed=config.seed, out=config.out, model=config.model, train=config.train)
    train(settings, resume=True, pipeline=config.to_yaml())
