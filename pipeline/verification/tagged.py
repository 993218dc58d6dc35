"""Checks tagged/: sentence ids, and mentions against their texts."""

from vlmixer.artifacts import schemas
from vlmixer.artifacts.details import TaggedDetails
from vlmixer.artifacts.samples import Mention
from vlmixer.pipeline.verification.checks import StageFolder, UniqueKeys, check_mention
from vlmixer.pipeline.verification.ties import Digests, of_sentence


def check(stage: StageFolder[TaggedDetails]) -> None:
    """Read every sentence."""
    parts = stage.parts
    ids = UniqueKeys(lambda: stage.column(parts, "sentence_id"))
    sentences, narrowed = Digests(), stage.ties.narrowed
    for output in parts:
        path = stage.path(output)
        with stage.report.reading(path):
            for table in stage.tables(output, schemas.TAGGED, key="sentence_id"):
                for row in table.to_pylist():
                    ids.add(row["sentence_id"])
                    mentions = [Mention(**mention) for mention in row["mentions"]]
                    for mention in mentions:
                        check_mention(path, row["sentence_id"], row["text"], mention, stage.report)
                    sentences.add(of_sentence(row["sentence_id"], row["text"], mentions, narrowed=narrowed))
    stage.ties.sentences = sentences if stage.complete else None
    stage.check_count("sentences", len(ids))
    stage.check_unique("sentence_id", ids)
    stage.report.rows["sentences"] += len(ids)
    for output in stage.named(schemas.NOT_MEANT_FILE):
        path = stage.path(output)
        with stage.report.reading(path):
            for table in stage.tables(output, schemas.NOT_MEANT, key="sentence_id"):
                for row in table.to_pylist():
                    for mention in row["not_meant"]:
                        check_mention(path, row["sentence_id"], row["text"], Mention(**mention), stage.report)
