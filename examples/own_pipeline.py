"""A Beam pipeline of your own around vlmixer's transforms: captions from Parquet, photos from a folder, shards.

python -m examples.own_pipeline --captions captions.parquet --photos 'photos/*.jpg' --out out [--detector NAME]
       [--weights FILE] [BEAM OPTIONS, such as --runner=FlinkRunner]
"""

import argparse
import os
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.io import ReadFromParquet, WriteToText, fileio
from apache_beam.options.pipeline_options import PipelineOptions

from vlmixer.pipeline.beam import (
    BuildPatchBank,
    DetectRegions,
    MakeImageSamples,
    MixSentences,
    TagSentences,
    WriteShards,
)
from vlmixer.pipeline.config import ImageSettings


def main(arguments: Sequence[str] | None = None) -> None:
    """Build OUT/bank and OUT/shards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", required=True, help="Parquet with the columns id and caption")
    parser.add_argument("--photos", required=True, help="a pattern of image files")
    parser.add_argument("--out", required=True)
    parser.add_argument("--detector", default="torchvision:fasterrcnn_resnet50_fpn_v2")
    parser.add_argument("--weights", default="default")
    own, beam_args = parser.parse_known_args(arguments)
    options = PipelineOptions(beam_args or ["--runner=FnApiRunner"])
    settings = ImageSettings(weights=own.weights)
    # Your own detector's module is looked for in the working folder, too.
    detect = DetectRegions(own.detector, settings=settings, import_paths=[os.getcwd()]).with_rejects()

    with beam.Pipeline(options=options) as pipeline:
        photos = (
            pipeline
            | "FindPhotos" >> fileio.MatchFiles(own.photos)
            | "SpreadPhotos" >> beam.Reshuffle()  # or one worker, which finds them, detects them all
            | "ReadPhotos" >> fileio.ReadMatches()
        )
        regions, lost = photos | "DetectRegions" >> detect
        bank = regions | BuildPatchBank(f"{own.out}/bank")
        mixed = (
            pipeline
            | "ReadCaptions" >> ReadFromParquet(own.captions)
            | "YourOwnFilter" >> beam.Filter(lambda row: not row["caption"].isupper())
            | "AsTexts" >> beam.Map(lambda row: (str(row["id"]), row["caption"]))
            | TagSentences()
            | "AfterBank" >> beam.WaitOn(bank)  # a sample may need any patch
            | MixSentences(f"{own.out}/bank")
        )
        _ = (mixed, regions | MakeImageSamples()) | beam.Flatten() | WriteShards(f"{own.out}/shards")
        _ = (
            lost
            | "AsLines" >> beam.Map("\t".join)
            | "WriteLost" >> WriteToText(f"{own.out}/lost", ".tsv", num_shards=1)
        )


if __name__ == "__main__":
    main()
