"""What manifests say more than once: settings and details, of one stage and of those that were made from each other."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.details import AnyDetails, BankDetails, FineTunedDetails, RegionsDetails, ShardsDetails
from vlmixer.artifacts.manifest import Manifest
from vlmixer.artifacts.stages import INDEX, MIX, TRAIN, StageType
from vlmixer.pipeline.verification.report import VerifyReport


def check_settings(folder: str, found: Manifest[AnyDetails], report: VerifyReport) -> None:
    """Whether the settings are those of config_hash, and the details say the same."""
    if found.settings is None:  # of older versions, and of banks made from banks
        return
    path, details = files.join(folder, manifest.NAME), found.details
    if manifest.digest(found.settings) != found.config_hash:
        report.add(path, "its settings are not those of its config_hash")
    said: Mapping[str, Any] = {}
    if isinstance(details, BankDetails):
        said = asdict(details.selection) | {"vocabulary": details.vocabulary_hash}
    elif isinstance(details, ShardsDetails):
        said = {**details.settings, "seed": details.seed}
    for name, value in said.items():
        if name in found.settings and found.settings[name] != value:
            report.add(path, f"details say {name} {str(value)[:40]}, its settings {str(found.settings[name])[:40]}")


def check_details(
    out: str, manifests: Mapping[StageType[AnyDetails], Manifest[AnyDetails] | None], report: VerifyReport
) -> None:
    """Whether stages that were made from each other are of one vocabulary, one detector and one width of features."""
    for stage, found in manifests.items():
        if found is None or stage not in (INDEX, MIX, TRAIN) or isinstance(found.details, FineTunedDetails):
            continue
        sources = {entry.name for entry in found.inputs}
        for source, other in manifests.items():
            if other is not None and source.folder in sources:
                for name in _differing(found.details, other.details):
                    path = files.join(out, stage.folder, manifest.NAME)
                    report.add(path, f"another {name} than {source.folder}/, from which it was made")


def _differing(one: AnyDetails, other: AnyDetails) -> list[str]:
    """The names of the fields that both have, and that differ."""
    found = [
        name
        for name in ("vocabulary_hash", "feature_dim")
        if hasattr(one, name) and hasattr(other, name) and getattr(one, name) != getattr(other, name)
    ]
    detectors = [_detector(details) for details in (one, other)]
    if isinstance(one, BankDetails) and isinstance(other, RegionsDetails) and one.detector != other.detector:
        detectors = ["one", "another"]
    return [*found, "detector"] if None not in detectors and detectors[0] != detectors[1] else found


def _detector(details: AnyDetails) -> str | None:
    """The detector's name, None if there is none."""
    if isinstance(details, ShardsDetails):
        return details.detector or None
    return details.detector.name if isinstance(details, BankDetails | RegionsDetails) else None
