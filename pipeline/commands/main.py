"""The `vlmixer` command: reads the call, hands it to the code that does the work, says what came of it.

Exit codes: 0 done, 1 the work failed, 2 the call was wrong. Results go to stdout, everything else to stderr.
What is heavy is imported where it is used, so that `vlmixer bank stats` does not wait for Beam or torch.
"""

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmixer.artifacts import stages
from vlmixer.artifacts.errors import CallError, UserError, WriteError
from vlmixer.pipeline.units.machine import default_workers

if TYPE_CHECKING:
    from PIL.Image import Image

    from vlmixer.bank.store import Hit, PatchBank
    from vlmixer.pipeline.config import Config

LOG = logging.getLogger("vlmixer")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    beam_args: list[str] = []
    if "--" in given:
        split = given.index("--")
        given, beam_args = given[:split], given[split + 1 :]
    options = _parser().parse_args(given)
    options.beam_args = tuple(beam_args)
    # Before numpy and torch are imported: one thread a process, and no spinning while others work.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # The libraries' own messages are for --debug; ours are always wanted.
    level = logging.INFO if options.debug else logging.ERROR
    logging.basicConfig(level=level, stream=sys.stderr, format="%(message)s", force=True)
    if not options.debug:
        logging.getLogger().handlers[0].addFilter(_is_for_the_user)
    logging.getLogger("vlmixer").setLevel(logging.INFO)
    try:
        code: int = options.do(options)
        return code
    except KeyboardInterrupt:
        print("stopped; the same command continues where this one ended.", file=sys.stderr)
        return 1
    except UserError as error:
        if options.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, CallError) else 1


def _is_for_the_user(record: logging.LogRecord) -> bool:
    """Not Beam's pages about an error, which is said in a line at the end; a run keeps them in OUT/logs."""
    return record.name != "root" and not record.name.startswith("apache_beam")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vlmixer", description="Cross-modal CutMix training data from two unrelated corpora. Docs: docs/."
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show tracebacks and the libraries' own messages")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    local_processes = "local processes (default: the processors, fewer where memory is short)"

    demo = commands.add_parser("demo", parents=[common], help="everything, offline, on a drawn world")
    demo.add_argument("--out", default="demo-out", help="folder for all of it (default: demo-out)")
    demo.add_argument("--seed", type=int, default=0, help="another seed draws another world")
    demo.add_argument("--workers", type=_positive, default=default_workers(), help=local_processes)
    demo.add_argument(
        "--evidence", action="store_true", help="train with parts of the method left out, too; takes long"
    )
    demo.add_argument(
        "--small",
        action="store_true",
        help="a twentieth of it, to try an installation in half a minute; its scores mean little",
    )
    demo.set_defaults(do=_demo)

    staged = argparse.ArgumentParser(add_help=False, parents=[common])
    staged.add_argument("config", metavar="CONFIG.yaml")
    staged.add_argument("--out", help="output folder (default: the config's)")
    staged.add_argument("--workers", type=_positive, default=default_workers(), help=local_processes)
    staged.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the config")
    staged.add_argument("--overwrite", action="store_true", help="do afresh what was done before")
    run = commands.add_parser(
        "run", parents=[staged], help="tag, detect, index, mix, and train if the config says so",
        epilog="Arguments after -- go to Beam: vlmixer run CONFIG.yaml -- --runner=FlinkRunner …",
    )  # fmt: skip
    run.set_defaults(do=_run, stages=stages.NAMES)
    for stage, what in (
        ("tag", "find the grounded words of the sentences"),
        ("detect", "find the regions of the images"),
        ("index", "build the patch bank"),
        ("mix", "write the shards"),
    ):
        commands.add_parser(stage, parents=[staged], help=what).set_defaults(do=_run, stages=(stage,))

    plan = commands.add_parser("plan", parents=[common], help="what a run will take, from a short probe")
    plan.add_argument("config", metavar="CONFIG.yaml")
    plan.add_argument("--out", help="output folder, of which only what is done already is read (default: the config's)")
    plan.add_argument("--workers", type=_positive, nargs="+", default=[], metavar="N", help="besides 1 and all cores")
    plan.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the config")
    plan.add_argument("--scale", type=_above_zero, metavar="TIMES", help="for so many times the corpora")
    plan.add_argument("--sentences", type=_positive, metavar="N", help="for so many sentences like these")
    plan.add_argument("--images", type=_positive, metavar="N", help="for so many images like these")
    plan.add_argument("--price", type=_above_zero, metavar="P", help="of a worker for an hour, for the cost")
    plan.add_argument("--seconds", type=_above_zero, default=5.0, help="that the probe takes a stage (default: 5)")
    plan.add_argument("--json", action="store_true", help="print one JSON object")
    plan.set_defaults(do=_plan)

    verify = commands.add_parser("verify", parents=[common], help="re-read everything and say whether it is sound")
    verify.add_argument("folder", metavar="DIR")
    verify.add_argument(
        "--bytes", action="store_true", help="only whether files are there and unchanged, at disk speed"
    )
    verify.add_argument(
        "--sample", type=_positive, metavar="N",
        help="a quick look: sizes of all files, all else of only N files a stage, drawn at random",
    )  # fmt: skip
    verify.add_argument("--json", action="store_true")
    verify.set_defaults(do=_verify)

    show = commands.add_parser("show", parents=[common], help="look at mixed samples")
    show.add_argument("folder", metavar="SHARDS_OR_OUT")
    _page_or_json(show)
    show.add_argument("-n", type=_positive, default=24, metavar="N", help="how many samples (default: 24)")
    show.add_argument("--concept", help="only samples with a patch of this concept")
    show.add_argument("--key", help="make this one sample again, from text and bank, and show it")
    show.add_argument("--why", action="store_true", help="with --key: why each mention was replaced or not")
    show.set_defaults(do=_show)

    bank = commands.add_parser("bank", help="look into a patch bank").add_subparsers(required=True, metavar="WHAT")
    in_bank = argparse.ArgumentParser(add_help=False, parents=[common])
    in_bank.add_argument("bank", metavar="BANK", help="folder of the bank, such as OUT/bank")
    stats = bank.add_parser("stats", parents=[in_bank], help="patches per concept, scores and sizes")
    stats.add_argument("--tagged", metavar="DIR", help="the text's mentions (default: tagged/ beside the bank)")
    stats.add_argument("--quality", action="store_true", help="how pure and how varied the concepts are, too")
    stats.add_argument("--json", action="store_true")
    stats.set_defaults(do=_bank_stats)
    query = bank.add_parser("query", parents=[in_bank], help="find patches")
    query.add_argument("--concept", help="a concept's name or synonym")
    query.add_argument(
        "--like", metavar="IMAGE_OR_PATCH_ID", help="most similar to this patch, or to what an image file shows, first"
    )
    query.add_argument("--config", metavar="CONFIG.yaml", help="for an image: names the bank's detector (default: "
                       "config.yaml beside the bank)")  # fmt: skip
    query.add_argument(
        "--context", default="", metavar='"grass, frisbee"', help="patches whose image holds these first"
    )
    query.add_argument("-k", type=_positive, default=16, help="how many (default: 16)")
    _page_or_json(query)
    query.add_argument("--save", metavar="DIR", help="write the crops and a patches.jsonl with their sources here")
    query.add_argument("--to-wds", metavar="DIR", help="write a small WebDataset of the crops here")
    query.set_defaults(do=_bank_query)
    sheet = bank.add_parser("show", parents=[in_bank], help="contact sheet, a row a concept")
    _page_or_json(sheet)
    sheet.set_defaults(do=_bank_show)
    drop = bank.add_parser("drop", parents=[in_bank], help="take images out of a bank (a take-down request)")
    drop.add_argument("--images", required=True, metavar="FILE", help="image ids or file names, one a line")
    drop.add_argument("--out", required=True, metavar="BANK2", help="folder of the new bank")
    drop.add_argument("--shards", metavar="DIR", help="list the samples in these shards that hold such patches, too")
    drop.add_argument("--json", action="store_true")
    drop.set_defaults(do=_bank_drop)
    merge = bank.add_parser("merge", parents=[common], help="put banks of one detector and vocabulary together")
    merge.add_argument("banks", metavar="BANK", nargs="+")
    merge.add_argument("--out", required=True, metavar="BANK2", help="folder of the new bank")
    merge.add_argument(
        "--max-patches", type=_positive, metavar="N", help="of a concept (default: the largest of the banks')"
    )
    merge.set_defaults(do=_bank_merge)
    serve = bank.add_parser("serve", parents=[in_bank], help="the bank's page with live queries, and a JSON API")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    serve.add_argument("--port", type=int, default=8765, help="0 takes a free one (default: 8765)")
    serve.add_argument("--max-k", type=_positive, default=256, help="most patches of one answer (default: 256)")
    serve.set_defaults(do=_bank_serve)

    train = commands.add_parser("train", parents=[common], help="train on the shards")
    train.add_argument("config", metavar="CONFIG.yaml")
    train.add_argument("--out", help="folder of the run (default: OUT/run)")
    train.add_argument("--resume", action="store_true", help="continue a run that stopped")
    train.add_argument(
        "--init", metavar="PATH", help="start from BERT weights in Hugging Face's layout (.safetensors), as model.init"
    )
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the config")
    train.set_defaults(do=_train)

    evaluate = commands.add_parser("eval", help="measure a run").add_subparsers(required=True, metavar="WHAT")
    retrieval = evaluate.add_parser("retrieval", parents=[common], help="zero-shot retrieval on true pairs")
    retrieval.add_argument("--run", required=True, help="folder of the run")
    retrieval.add_argument("--images", required=True, metavar="CAPTIONS.jsonl")
    retrieval.add_argument("--config", help="config with detector and vocabulary (default: the one saved in the run)")
    retrieval.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of it")
    retrieval.add_argument("--html", metavar="FILE", help="write a page: captions found for photos, words on regions")
    retrieval.add_argument("-n", type=_positive, default=24, metavar="N", help="photos on the page (default: 24)")
    retrieval.add_argument("--json", action="store_true")
    retrieval.set_defaults(do=_eval_retrieval)
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1, found {text}")
    return value


def _above_zero(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text}")
    return value


def _page_or_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--html", metavar="FILE", help="write a self-contained page")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _print_json(content: Any) -> None:
    print(json.dumps(content, ensure_ascii=False, indent=1))


def _demo(options: argparse.Namespace) -> int:
    from vlmixer.pipeline.demo.run import FULL, SMALL, run_demo

    table, page = run_demo(
        options.out, seed=options.seed, workers=options.workers, beam_args=options.beam_args,
        evidence=options.evidence, size=SMALL if options.small else FULL,
    )  # fmt: skip
    print(table)
    LOG.info("page: %s", page)
    return 0


def _import_paths(config: str) -> tuple[str, ...]:
    """Where a detector of the user's own may lie: the working folder, the config file's, and our own checkout, so that
    `examples.…` is found from anywhere.

    They go into the environment too, from which worker processes take them.
    """
    checkout = Path(__file__).resolve().parents[2]
    examples = [str(checkout)] if (checkout / "examples").is_dir() else []
    paths = tuple(dict.fromkeys([os.getcwd(), str(Path(config).resolve().parent), *examples]))
    known = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*known, *paths]))
    return paths


def _run(options: argparse.Namespace) -> int:
    from vlmixer.artifacts import files
    from vlmixer.artifacts.lock import locked
    from vlmixer.pipeline.config import load_config

    config = load_config(options.config, options.set, options.out)
    if options.stages == stages.NAMES and config.train is not None:
        _want_local(config.out)
    _log_to(config.out)
    with locked(files.join(config.out, "logs")):
        _run_locked(options, config)
    return 0


def _run_locked(options: argparse.Namespace, config: "Config") -> None:
    from vlmixer.artifacts import files
    from vlmixer.pipeline.jobs.chain import run_stages
    from vlmixer.pipeline.jobs.engine import Engine

    engine = Engine(options.workers, options.beam_args)
    run_stages(config, options.stages, engine, overwrite=options.overwrite, import_paths=_import_paths(options.config))
    if options.stages == ("tag",):
        _print_tagging(config.out)
    if options.stages == ("mix",):
        _print_mixing(config.out)
    if options.stages == stages.NAMES and config.train is not None:
        run = files.join(config.out, "run")
        if options.overwrite:
            files.remove(run)
        _train_run(config, run, resume=True)


def _plan(options: argparse.Namespace) -> int:
    from vlmixer.pipeline.config import load_config
    from vlmixer.pipeline.planning.probe import plan_run

    if options.scale and (options.sentences or options.images):
        raise CallError("--scale and --sentences or --images contradict each other. Give one of them.")
    config = load_config(options.config, options.set, options.out)
    report = plan_run(
        config,
        scale=options.scale,
        sentences=options.sentences,
        images=options.images,
        workers=options.workers,
        price=options.price,
        seconds=options.seconds,
        import_paths=_import_paths(options.config),
    )
    if options.json:
        _print_json(report.to_json())
    else:
        print(report.to_table())
    return 0


def _print_tagging(out: str) -> None:
    from vlmixer.artifacts import files
    from vlmixer.pipeline.report.tagging import PAGE, SUMMARY, TagSummary

    folder = files.join(out, stages.TAG.folder)
    print(TagSummary.from_json(json.loads(files.read_bytes(files.join(folder, SUMMARY)))).to_table())
    LOG.info("examples of every concept: %s", files.join(folder, PAGE))


def _print_mixing(out: str) -> None:
    from vlmixer.artifacts import files
    from vlmixer.pipeline.report.mixing import PAGE, SUMMARY, MixSummary

    folder = files.join(out, stages.MIX.folder)
    print(MixSummary.from_json(json.loads(files.read_bytes(files.join(folder, SUMMARY)))).to_table())
    LOG.info("concepts, and the patches used most: %s", files.join(folder, PAGE))


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Where the disk is full, the work says so; the log's own troubles would be pages of traceback."""


def _log_to(out: str) -> None:
    """Keep what is said on stderr in OUT/logs as well, with the time: nothing else there has one."""
    if "://" in out:
        return
    folder = Path(out) / "logs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handler = _LogFile(folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log")
    except OSError as error:
        raise WriteError.of(str(folder), error) from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)


def _verify(options: argparse.Namespace) -> int:
    from vlmixer.pipeline.verification.verify import Depth, verify

    report = verify(options.folder, Depth(records=not options.bytes, sample=options.sample))
    if options.json:
        _print_json(report.to_json())
    else:
        for problem in report.problems:
            print(f"{problem.file}: {problem.what}")
        looked = f" ({options.sample} files a stage were looked into)" if options.sample else ""
        print(f"{'sound' if report.sound else f'{len(report.problems)} problems'}: {report.summary()}{looked}")
    return 0 if report.sound else 1


def _show_again(options: argparse.Namespace) -> int:
    from vlmixer.artifacts import files
    from vlmixer.artifacts.samples import sample_record
    from vlmixer.bank.store import PatchBank
    from vlmixer.pipeline.mix.again import make_again, to_text
    from vlmixer.pipeline.report.samples import write_samples_page

    out = options.folder.rstrip("/").removesuffix("/shards") if options.folder.endswith("shards") else options.folder
    again = make_again(out, options.key)
    reasons = [f"{why.mention.surface}: {why.reason}" for why in again.why] if options.why else []
    if options.json:
        _print_json({**sample_record(again.sample), "shard": again.shard, "from": again.source, "why": reasons})
    else:
        print(to_text(again, why=options.why))
    if options.html:
        bank = PatchBank.open(files.join(out, "bank"))
        write_samples_page(options.html, [again.sample], bank, title=f"Sample {options.key}", why=reasons)
        LOG.info("page: %s", options.html)
    return 0


def _show(options: argparse.Namespace) -> int:
    from vlmixer.artifacts import files, manifest
    from vlmixer.artifacts.samples import sample_record
    from vlmixer.bank.store import PatchBank
    from vlmixer.pipeline.report.samples import choose_samples, write_samples_page

    if options.key:
        return _show_again(options)
    if options.why:
        raise CallError("--why tells of one sample: give its --key, too.")
    _want_page_or_json(options)
    inner = files.join(options.folder, "shards")
    shards = inner if files.exists(files.join(inner, manifest.NAME)) else options.folder
    if not files.exists(files.join(shards, manifest.NAME)):
        raise CallError(f"{options.folder}: neither an output folder with shards/ nor a folder of shards.")
    manifest.read(shards)  # refuses those of another schema version
    samples = choose_samples(shards, options.n, options.concept)
    if options.json:
        _print_json({"samples": [sample_record(sample) for sample in samples]})
    if options.html:
        beside = files.join(files.parent(shards), "bank")
        bank = PatchBank.open(beside) if files.exists(files.join(beside, manifest.NAME)) else None
        count = write_samples_page(options.html, samples, bank, title=f"Samples of {options.folder}")
        LOG.info("%d samples: %s", count, options.html)
    return 0


def _want_page_or_json(options: argparse.Namespace) -> None:
    if not options.html and not options.json:
        raise CallError("give --html FILE for a page or --json for data.")


def _bank_stats(options: argparse.Namespace) -> int:
    from vlmixer.artifacts import files, manifest
    from vlmixer.bank.quality import bank_quality
    from vlmixer.bank.stats import bank_stats
    from vlmixer.bank.store import PatchBank

    bank = PatchBank.open(options.bank)
    tagged = options.tagged or files.join(files.parent(options.bank), "tagged")
    mentions = None
    if options.tagged or files.exists(files.join(tagged, manifest.NAME)):
        mentions = manifest.read(tagged, stages.TAG).details.mentions
    stats = bank_stats(bank, mentions)
    quality = bank_quality(bank) if options.quality else None
    if options.json:
        _print_json({**stats.to_json(), **({} if quality is None else {"quality": quality.to_json()})})
    else:
        print(stats.to_table())
        if quality is not None:
            print("", quality.to_table(), sep="\n")
    return 0


def _bank_query(options: argparse.Namespace) -> int:
    from vlmixer.bank.store import PatchBank
    from vlmixer.pipeline.report.bank import write_hits_page

    bank, like = PatchBank.open(options.bank), options.like
    if like and os.path.isfile(like):
        bank, like = _bank_with_picture(options)
    elif like and ("/" in like or "." in like):  # no patch id looks like this
        raise CallError(f"--like {like}: no such file. Give an image file, or the id of a patch of the bank.")
    context = [word.strip() for word in options.context.split(",") if word.strip()]
    hits = bank.search(options.concept, like=like, context=context, k=options.k)
    if options.save:
        from vlmixer.bank.export import save_hits

        save_hits(hits, options.save)
        LOG.info("%d crops: %s", len(hits), options.save)
    if options.to_wds:
        from vlmixer.bank.export import write_webdataset

        shards = write_webdataset(hits, options.to_wds)
        LOG.info("%d crops in %d shards: %s", len(hits), len(shards), options.to_wds)
    if options.html:
        asked = [options.concept or "any concept", *(f"like {options.like}" for _ in [0] if options.like)]
        asked += [f"with {word}" for word in context]
        write_hits_page(options.html, bank, hits, title=", ".join(asked))
        LOG.info("%d patches: %s", len(hits), options.html)
    if options.json:
        _print_json({"hits": [_hit_json(hit) for hit in hits]})
    elif not options.html and not options.save and not options.to_wds:
        for hit in hits:
            patch = hit.patch
            where = " ".join(f"{value:.0f}" for value in patch.box)
            print(
                f"{patch.patch_id}  {patch.concept}  {patch.score:.2f}  {hit.similarity:.3f}  {patch.source} [{where}]"
            )
    return 0


def _hit_json(hit: "Hit") -> dict[str, Any]:
    return hit.to_json()


def _bank_with_picture(options: argparse.Namespace) -> "tuple[PatchBank, Image]":
    """The bank, with its detector at hand, and the picture that --like names."""
    from PIL import Image

    from vlmixer.artifacts import files
    from vlmixer.bank.store import PatchBank
    from vlmixer.pipeline.config import load_config
    from vlmixer.pipeline.image.decoding import ImageRejected, decode
    from vlmixer.pipeline.image.likeness import embedder

    config = options.config or files.join(files.parent(options.bank), "config.yaml")
    try:
        limit = load_config(config).images.max_megapixels * 1e6 if files.exists(config) else 1e8
        picture = Image.fromarray(decode(files.read_bytes(options.like), max_pixels=limit))
    except ImageRejected as rejected:
        raise CallError(f"{options.like}: not usable as an image: {rejected}") from None
    embed = embedder(options.bank, options.config, _import_paths(config))
    return PatchBank.open(options.bank, embed=embed), picture


def _bank_show(options: argparse.Namespace) -> int:
    from vlmixer.bank.store import PatchBank
    from vlmixer.pipeline.report.bank import write_bank_page

    _want_page_or_json(options)
    bank = PatchBank.open(options.bank)
    if options.json:
        _print_json({"concepts": {entry.name: _patches_json(bank, entry.name) for entry in bank.concepts}})
    if options.html:
        write_bank_page(options.html, bank)
        LOG.info("%d patches: %s", len(bank), options.html)
    return 0


def _bank_drop(options: argparse.Namespace) -> int:
    from vlmixer.artifacts import files
    from vlmixer.artifacts.samples import read_shard
    from vlmixer.bank.changing import affected_samples, drop_images
    from vlmixer.bank.store import PatchBank

    try:
        lines = files.read_bytes(options.images).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CallError(f"{options.images}: expected a UTF-8 text file with an image a line ({error}).") from None
    names = [line.strip() for line in lines if line.strip()]
    tars = []
    if options.shards:
        tars = [name for name in files.list_files(options.shards) if name.endswith(".tar")]
        if not tars:
            raise CallError(f"{options.shards}: holds no shards (*.tar). Give the folder that `vlmixer mix` wrote.")
    dropped = drop_images(PatchBank.open(options.bank), names, options.out)
    # Samples may also hold regions of an image that never came into the bank.
    images = {*dropped.images, *names}
    affected = {name: list(affected_samples(read_shard(files.join(options.shards, name)), images)) for name in tars}
    affected = {name: keys for name, keys in affected.items() if keys}
    if options.json:
        _print_json({**vars(dropped), "samples": affected if options.shards else None})
        return 0
    patches, keys = sum(dropped.patches.values()), sum(map(len, affected.values()))
    print(f"{patches} patches of {len(dropped.images)} images taken out; the bank without them: {options.out}")
    print("by concept: " + ", ".join(f"{name} {count}" for name, count in dropped.patches.items()))
    if dropped.unknown:
        print(f"not in the bank ({len(dropped.unknown)}): {', '.join(dropped.unknown)}")
    if options.shards:
        print(f"{keys} samples in {len(affected)} shards hold patches or regions of these images:")
        for name, found in affected.items():
            print(*(f"{name}  {key}" for key in found), sep="\n")
    LOG.info("photos, regions/ and shards/ are as they were: take the photos out of images.inputs and run again")
    return 0


def _bank_merge(options: argparse.Namespace) -> int:
    from vlmixer.bank.changing import merge_banks
    from vlmixer.bank.store import PatchBank
    from vlmixer.pipeline.jobs.chain import describe

    banks = [PatchBank.open(folder) for folder in options.banks]
    merged = merge_banks(banks, options.out, max_patches=options.max_patches)
    LOG.info("%s: %s", options.out, describe(merged))
    return 0


def _bank_serve(options: argparse.Namespace) -> int:
    from vlmixer.bank.store import PatchBank
    from vlmixer.pipeline.report.server import serve

    serve(PatchBank.open(options.bank), options.host, options.port, max_k=options.max_k)
    return 0


def _patches_json(bank: "PatchBank", concept: str, most: int = 24) -> dict[str, Any]:
    patches = bank.patches(concept)
    return {"count": len(patches), "patches": [record.to_json() for record in patches[:most]]}


def _train(options: argparse.Namespace) -> int:
    from vlmixer.artifacts import files
    from vlmixer.pipeline.config import load_config

    given = [] if options.init is None else [f"model.init={json.dumps(options.init)}"]
    config = load_config(options.config, [*options.set, *given])
    _train_run(config, options.out or files.join(config.out, "run"), resume=options.resume)
    return 0


def _want_local(run: str) -> None:
    if "://" in run:
        raise CallError(
            f"{run}: training writes checkpoints, which needs a local folder. Leave it out of the run "
            "(--set train=null), then call `vlmixer train CONFIG.yaml --set train.shards=URL/shards --out FOLDER`."
        )


def _train_run(config: "Config", run: str, *, resume: bool) -> None:
    import torch

    from vlmixer.artifacts import files
    from vlmixer.bank.concepts import load_vocabulary
    from vlmixer.model.config import Settings, TrainConfig
    from vlmixer.model.training import train

    _want_local(run)
    torch.set_num_threads(os.cpu_count() or 1)
    settings = Settings(config.seed, config.out, config.vocabulary, config.model, config.train or TrainConfig())
    train(settings, out=run, resume=resume, vocabulary_hash=load_vocabulary(config.vocabulary).hash)
    # Evaluation needs the detector and the vocabulary, of which the trainer itself knows nothing.
    files.publish_bytes(files.join(run, "pipeline.yaml"), config.to_yaml().encode())


def _eval_retrieval(options: argparse.Namespace) -> int:
    from vlmixer.artifacts import files
    from vlmixer.pipeline.config import load_config
    from vlmixer.pipeline.evaluation.retrieval import evaluate_retrieval

    saved = files.join(options.run, "pipeline.yaml")
    if options.config is None and not files.exists(saved):
        raise CallError(f"{saved}: not there, so detector and vocabulary are not known. Give --config CONFIG.yaml.")
    path = options.config or saved
    config = load_config(path, options.set)
    report, skipped = evaluate_retrieval(
        options.run, options.images, config, _import_paths(path), options.html, options.n
    )
    if options.html:
        LOG.info("page: %s", options.html)
    if options.json:
        _print_json({**report.to_json(), "skipped": skipped})
    else:
        print(report.to_table())
        for image, reason in skipped.items():
            LOG.info("not used: %s: %s", image, reason)
    return 0


if __name__ == "__main__":
    sys.exit(main())
