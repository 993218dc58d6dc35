"""Local worker processes on Beam's own runner. The only file that touches Beam's internals; tried with Beam 2.77."""

import shlex
import sys

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.transforms.environments import SubprocessSDKEnvironment

WORKER = "vlmixer.pipeline.jobs.worker"


def local_runner(options: PipelineOptions, workers: int) -> FnApiRunner:
    """A runner with this many worker processes; with one, it works in this process.

    Beam's class itself, as "DirectRunner" would first try to download another runner.
    """
    if workers == 1:
        return FnApiRunner()
    # -P: the working folder, whatever files the user has there, does not go to the front of sys.path.
    environment = SubprocessSDKEnvironment.from_command_string(f"exec {shlex.quote(sys.executable)} -P -m {WORKER}")
    # Worker processes learn their options from the runner's provision info alone.
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options(drop_default=True))
    provision = ExtendedProvisionInfo(beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded))
    return FnApiRunner(default_environment=environment, provision_info=provision)
