"""Checks tagged/: sentence ids, and mentions against their texts."""

from vlmixer.artifacts import files, manifest, schemas
from vlmixer.artifacts.details import TaggedDetails
from vlmixer.artifacts.samples import Mention
from vlmixer.pipeline.text.readers.slices import source_id
from vlmixer.pipeline.verification.checks import ByConcept, StageFolder, UniqueKeys, check_mention
from vlmixer.pipeline.verification.ties import Digests, of_sentence


def check(stage: StageFolder[TaggedDetails]) -> None:
    """Read every sentence."""
    parts = stage.parts
    ids = UniqueKeys(lambda: stage.column(parts, "sentence_id"))
    sentences, narrowed = Digests(), stage.ties.narrowed
    details = stage.manifest.details
    meant, not_meant = ByConcept(details.mentions), ByConcept(details.not_meant)
    for output in parts:
        path = stage.path(output)
        with stage.report.reading(path):
            for table in stage.tables(output, schemas.TAGGED, key="sentence_id"):
                for row in table.to_pylist():
                    ids.add(row["sentence_id"])
                    mentions = [Mention(**mention) for mention in row["mentions"]]
                    meant.add(mention.concept for mention in mentions)
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
                    not_meant.add(mention["concept"] for mention in row["not_meant"])
                    for mention in row["not_meant"]:
                        check_mention(path, row["sentence_id"], row["text"], Mention(**mention), stage.report)
    stage.check_by_concept("mentions", meant)
    stage.check_by_concept("not_meant", not_meant)
    if any(source_id(name) != source for source, name in details.sources.items()):
        stage.report.add(files.join(stage.folder, manifest.NAME), "sources: a name that is not the one of its id")
