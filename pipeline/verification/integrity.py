"""Files against their manifest: present, right size, right SHA-256. Records are left to the checkers."""

import os
import random
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tqdm import tqdm

from vlmixer.artifacts import files
from vlmixer.artifacts.manifest import Output
from vlmixer.pipeline.verification.report import VerifyReport


@dataclass(frozen=True)
class Depth:
    """How closely to look.

    records: whether to read the records of files, beyond their bytes. sample: the number of files per stage that are
    read, drawn anew each time; of the others only the size is checked. None reads all files.
    """

    records: bool = True
    sample: int | None = None

    def choose(self, outputs: Sequence[Output]) -> list[Output]:
        """The files to read."""
        if self.sample is None or self.sample >= len(outputs):
            return list(outputs)
        return sorted(random.sample(outputs, self.sample), key=lambda output: output.name)


EVERYTHING = Depth()


def unchanged(
    folder: str, outputs: Sequence[Output], sizes: Mapping[str, int], report: VerifyReport, depth: Depth, label: str
) -> list[Output]:
    """Reads files of `folder`, as many as `depth` says, and returns those whose bytes are what the manifest says.

    sizes: the files that are present, with their bytes. Missing and changed files become problems of `report`. label:
    what the progress bar calls the files.
    """
    for output in outputs:
        if output.name not in sizes:
            report.add(files.join(folder, output.name), "missing")
    present = [output for output in outputs if output.name in sizes]
    chosen = depth.choose([output for output in present if _size_matches(folder, output, sizes[output.name], report)])
    # Hashing lets other threads run, and more threads than cores keep the disk busy.
    with ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
        hashes = pool.map(lambda output: files.sha256(files.join(folder, output.name)), chosen)
        found = list(tqdm(hashes, desc=f"verify {label}", unit="file", total=len(chosen), disable=None))
    sound = []
    for output, hashed in zip(chosen, found, strict=True):
        report.bytes += output.bytes
        if hashed == output.sha256:
            sound.append(output)
        else:
            report.add(files.join(folder, output.name), "its bytes changed: its SHA-256 is not the one in the manifest")
    return sound


def _size_matches(folder: str, output: Output, size: int, report: VerifyReport) -> bool:
    report.files += 1
    if size != output.bytes:
        report.add(files.join(folder, output.name), f"{size} bytes, expected {output.bytes}")
    return size == output.bytes
