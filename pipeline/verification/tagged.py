"""Checks tagged/: sentence ids, and mentions against their texts."""

from vlmixer.artifacts import schemas
from vlmixer.artifacts.details import TaggedDetails
from vlmixer.artifacts.samples import Mention
from vlmixer.pipeline.verification.checks import StageFolder, UniqueKeys, check_mention


def check(stage: StageFolder[TaggedDetails]) -> None:
    """Read every sentence."""
    parts = stage.named(".parquet")
    ids = UniqueKeys(lambda: stage.column(parts, "sentence_id"))
    for output in parts:
        path = stage.path(output)
        with stage.report.reading(path):
            for table in stage.tables(output, schemas.TAGGED):
                for row in table.to_pylist():
                    ids.add(row["sentence_id"])
                    for mention in row["mentions"]:
                        check_mention(path, row["sentence_id"], row["text"], Mention(**mention), stage.report)
    stage.check_count("sentences", len(ids))
    stage.check_unique("sentence_id", ids)
    stage.report.rows["sentences"] += len(ids)
