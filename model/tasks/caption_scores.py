"""The usual scores of captions: BLEU, METEOR, ROUGE-L, CIDEr and, where its models are, SPICE.

They come from pycocoevalcap, the extra `captions`, which starts Java for METEOR, SPICE and the words of a caption.
"""

import glob
import importlib.util
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.extras import install_command

PACKAGE = "pycocoevalcap"
SPICE_MODELS = "stanford-corenlp-3.6.0-models.jar"
"""What SPICE needs and the package lacks, in its folder spice/lib; see docs/tasks.md."""
SPICE_MEMORY = "-Xmx8G"

Words = dict[str, list[str]]
"""Captions by image, each as words with spaces between."""
Scorer = Callable[[Words, Words], Mapping[str, Sequence[float]]]
"""Takes references and captions; returns, by name, the score of each image in their order, and of all as the last."""


@dataclass(frozen=True)
class Scorers:
    """How captions become words, and what scores them."""

    tokenize: Callable[[list[str]], list[str]]
    scorers: tuple[Scorer, ...]


@dataclass(frozen=True)
class CaptionScore:
    """A score of all captions together, `value`, and of those of single images, `each`, in the order of the images."""

    value: float
    each: tuple[float, ...]


def missing(package: str = PACKAGE, java: str = "java") -> str | None:
    """What has to be installed for these scores, as a sentence; None if nothing."""
    if importlib.util.find_spec(package) is None:
        return f"BLEU, METEOR, ROUGE-L and CIDEr need the package {package}: {install_command('captions')}"
    if shutil.which(java) is None:
        return "BLEU, METEOR, ROUGE-L and CIDEr need Java: install a Java runtime, version 8 or later"
    return None


def caption_scores(
    captions: Mapping[str, str], references: Mapping[str, Sequence[str]], scorers: Scorers | None = None
) -> dict[str, CaptionScore]:
    """BLEU-1 … 4, METEOR, ROUGE-L, CIDEr and perhaps SPICE, by name.

    `captions`: one by image. `references`: those that people wrote, at least one for each of these images. `scorers`:
    None for those of pycocoevalcap. Raises UserError if something is missing or Java fails.
    """
    if scorers is None:
        if (reason := missing()) is not None:
            raise UserError(f"{reason}.")
        scorers = installed()
    if not captions:
        return {}
    names = list(captions)
    texts = [captions[name] for name in names] + [text for name in names for text in references[name]]
    # One line for each caption: Java ends lines where Python's str.split has spaces.
    words = iter(scorers.tokenize([" ".join(text.replace("|||", " ").split()) for text in texts]))
    ours = {name: [next(words)] for name in names}
    given = {name: [next(words) for _ in references[name]] for name in names}
    found: dict[str, CaptionScore] = {}
    for scorer in scorers.scorers:
        for name, values in scorer(given, ours).items():
            *each, value = map(float, values)
            found[name] = CaptionScore(value, tuple(each))
    return found


def installed() -> Scorers:
    """Those of pycocoevalcap."""
    scorers: list[Scorer] = [_bleu, _meteor, _rouge, _cider]
    if os.path.isfile(os.path.join(_folder("spice"), "lib", SPICE_MODELS)):
        scorers.append(_spice)
    return Scorers(_tokenize, tuple(scorers))


def _folder(part: str) -> str:
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations
    return os.path.join(spec.submodule_search_locations[0], part)


def _tokenize(texts: list[str]) -> list[str]:
    """The package's tokenizer, without the temporary file that it writes into its own folder."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS, STANFORD_CORENLP_3_4_1_JAR

    jar = os.path.join(_folder("tokenizer"), STANFORD_CORENLP_3_4_1_JAR)
    command = ["java", "-cp", jar, "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    lines = _java([*command, "-encoding", "UTF-8"], "\n".join(texts) + "\n").split("\n")[: len(texts)]
    return [" ".join(word for word in line.split() if word not in PUNCTUATIONS) for line in lines]


def _bleu(references: Words, captions: Words) -> dict[str, list[float]]:
    from pycocoevalcap.bleu.bleu import Bleu

    values, each = Bleu(4).compute_score(references, captions, verbose=0)
    return {f"BLEU-{n + 1}": [*each[n], values[n]] for n in range(4)}


def _meteor(references: Words, captions: Words) -> dict[str, list[float]]:
    from pycocoevalcap.meteor.meteor import Meteor

    try:
        value, each = Meteor().compute_score(references, captions)
    except (OSError, ValueError) as error:  # what the package makes of a Java that ended
        raise UserError(f"METEOR: java did not answer ({error}). It needs 2 GB of memory.") from None
    return {"METEOR": [*each, value]}


def _rouge(references: Words, captions: Words) -> dict[str, list[float]]:
    from pycocoevalcap.rouge.rouge import Rouge

    value, each = Rouge().compute_score(references, captions)
    return {"ROUGE-L": [*each, value]}


def _cider(references: Words, captions: Words) -> dict[str, list[float]]:
    from pycocoevalcap.cider.cider import Cider

    value, each = Cider().compute_score(references, captions)
    return {"CIDEr": [*each, value]}


def _spice(references: Words, captions: Words) -> dict[str, list[float]]:
    """SPICE, started as Java since version 9 needs it: the package's own call cannot read its models there."""
    folder = _folder("spice")
    jars = [os.path.join(folder, "spice-1.0.jar"), *sorted(glob.glob(os.path.join(folder, "lib", "*.jar")))]
    given = [{"image_id": name, "test": captions[name][0], "refs": references[name]} for name in captions]
    with tempfile.TemporaryDirectory() as place:
        source, result = os.path.join(place, "in.json"), os.path.join(place, "out.json")
        with open(source, "w", encoding="utf-8") as file:
            json.dump(given, file)
        opened = [part for name in ("java.lang", "java.math", "java.util")
                  for part in ("--add-opens", f"java.base/{name}=ALL-UNNAMED")]  # fmt: skip
        command = ["java", SPICE_MEMORY, *opened, "-cp", os.pathsep.join(jars), "edu.anu.spice.SpiceScorer"]
        _java([*command, source, "-out", result, "-subset", "-silent"], "")
        with open(result, encoding="utf-8") as file:
            scores = {row["image_id"]: row["scores"]["All"]["f"] for row in json.load(file)}
    each = [float(scores[name]) for name in captions]
    return {"SPICE": [*each, sum(each) / len(each)]}


def _java(command: list[str], text: str) -> str:
    """What Java prints for `text`. Raises UserError with its last words if it fails."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"java ended with code {done.returncode} while scoring captions: {last[:300]}")
    return done.stdout
