"""The patch bank: concepts, their patches, and search. Needs neither Beam nor torch.

The public names are imported when they are first used, so that `import vlmixer.bank` does not load FAISS.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlmixer.bank.changing import drop_images, merge_banks
    from vlmixer.bank.concepts import Concept, Vocabulary, load_vocabulary
    from vlmixer.bank.export import save_hits, write_webdataset
    from vlmixer.bank.quality import BankQuality, bank_quality
    from vlmixer.bank.records import ConceptPatches, Hit, Hits, PatchRecord
    from vlmixer.bank.stats import BankStats, bank_stats
    from vlmixer.bank.store import PatchBank
else:
    from vlmixer.artifacts.lazy import importer

    __getattr__ = importer(
        __name__,
        {
            "changing": ["drop_images", "merge_banks"],
            "concepts": ["Concept", "Vocabulary", "load_vocabulary"],
            "export": ["save_hits", "write_webdataset"],
            "quality": ["BankQuality", "bank_quality"],
            "records": ["ConceptPatches", "Hit", "Hits", "PatchRecord"],
            "stats": ["BankStats", "bank_stats"],
            "store": ["PatchBank"],
        },
    )

__all__ = [
    "BankQuality",
    "BankStats",
    "Concept",
    "ConceptPatches",
    "Hit",
    "Hits",
    "PatchBank",
    "PatchRecord",
    "Vocabulary",
    "bank_quality",
    "bank_stats",
    "drop_images",
    "load_vocabulary",
    "merge_banks",
    "save_hits",
    "write_webdataset",
]
