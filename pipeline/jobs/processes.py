"""Local worker processes on Beam's own runner.

Beam has such processes, too, but does not notice when one dies: the run would wait forever. Here, a process that dies
ends the run with its last words, and the other workers end with it. What workers print goes to the log. The processes
come from a server (worker_server.py).

This is the only file that touches Beam's internals; written for Beam 2.77.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from weakref import WeakValueDictionary

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_fn_api_pb2, beam_provision_api_pb2, endpoints_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo
from apache_beam.runners.portability.fn_api_runner.worker_handlers import GrpcWorkerHandler, WorkerHandler
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.transforms.environments import SubprocessSDKEnvironment
from google.protobuf import json_format, text_format
from grpc import RpcError

from vlmixer.artifacts.errors import UserError
from vlmixer.pipeline.jobs.proxies import NO_PROXY, not_proxied
from vlmixer.pipeline.jobs.worker_server import LastLines, ServedWorker, WorkerServer

URN = "vlmixer:env:worker_process:v1"
SECONDS_TO_END = 30.0
SECONDS_TO_TELL = 5.0
"""Between the end of a process's data and its exit code."""
_servers: WeakValueDictionary[bytes, WorkerServer] = WeakValueDictionary()
"""By the text that stands for a server in an environment: Beam makes a WorkerProcess from text alone."""


def local_runner(options: PipelineOptions, server: WorkerServer | None) -> FnApiRunner:
    """A runner with worker processes of this server; without one, it works in this process.

    Beam's class itself, as "DirectRunner" would first try to download another runner.
    """
    if server is None:
        return FnApiRunner()
    _servers[str(server.pid).encode()] = server
    environment = _Environment.from_command_string(str(server.pid))
    # Worker processes learn their options from the runner's provision info alone.
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options(drop_default=True))
    provision = ExtendedProvisionInfo(beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded))
    return FnApiRunner(default_environment=environment, provision_info=provision)


class _Environment(SubprocessSDKEnvironment):
    """Beam's environment of worker processes, handled by WorkerProcess."""

    def to_runner_api_parameter(self, context: Any) -> tuple[str, bytes]:
        return URN, self.command_string.encode()


@WorkerHandler.register_environment(URN, bytes)
class WorkerProcess(GrpcWorkerHandler):
    """A worker process and the runner's connection to it."""

    def __init__(self, server_pid: bytes, state: Any, provision_info: Any, runner_server: Any) -> None:
        super().__init__(state, provision_info, runner_server)
        self._server = _servers[server_pid]
        self._ending = False
        self._failure = ""
        self._failed = threading.Event()
        self._process: ServedWorker | None = None
        self._ended = threading.Event()
        # Another worker may die, which ends all, while this one starts.
        self._starting = threading.Lock()
        # All workers of a run share Beam's server; when one dies, all are ended.
        self._siblings: list[WorkerProcess] = runner_server.__dict__.setdefault("_vlmixer_workers", [])
        self._siblings.append(self)
        self._push = self.control_conn.push
        self.control_conn.push = self._push_or_fail
        self.control_conn._read_thread = threading.Thread(target=self._read_responses, daemon=True)
        self._read_inputs = self.data_conn._read_inputs
        self.data_conn._read_inputs = self._read_data
        self._input_elements = self.data_conn.input_elements
        self.data_conn.input_elements = self._elements

    def start_worker(self) -> None:
        provision = self.provision_info.provision_info
        environment = {
            **os.environ,
            "WORKER_ID": self.worker_id,
            "CONTROL_API_SERVICE_DESCRIPTOR": _descriptor(self.control_address),
            "LOGGING_API_SERVICE_DESCRIPTOR": text_format.MessageToString(self.logging_api_service_descriptor()),
            "PIPELINE_OPTIONS": json_format.MessageToJson(provision.pipeline_options),
            NO_PROXY: not_proxied(os.environ),
        }
        with self._starting:
            if self._ending:
                return
            self._process = self._server.start(environment)
        threading.Thread(target=self._wait, args=[self._process], daemon=True).start()

    def close(self) -> None:
        if self.control_conn._futures_by_id:  # still at work: the run was interrupted, or failed
            self.kill("ended with the run")
        super().close()

    def stop_worker(self) -> None:
        self._ending = True
        if self._process and not self._ended.wait(SECONDS_TO_END):
            self.kill("did not end")

    def kill(self, failure: str) -> None:
        """End the process at once; whoever waits for its answers gets `failure`."""
        with self._starting:
            self._ending = True
            self._fail(failure)
            if self._process:
                self._process.kill()

    def _wait(self, process: ServedWorker) -> None:
        lines = LastLines(process.output, f"worker {self.worker_id}")
        ended = process.wait()
        self._server.worked += ended.seconds if ended else 0
        self._ended.set()
        if self._ending:
            return
        if ended is None:
            failure = last_words(self._server.pid, self._server.wait(), self._server.last_lines.get())
        else:
            failure = last_words(ended.pid, ended.code, lines.get())
        for worker in self._siblings:
            worker.kill(failure)

    def _fail(self, failure: str) -> None:
        # In the form in which engines pass on what a worker raised (pipeline/jobs/failures.py).
        self._failure = f"{UserError.__module__}.{UserError.__name__}: {failure}"
        self._failed.set()
        for future in list(self.control_conn._futures_by_id.values()):
            self._answer(future)

    def _push_or_fail(self, request: Any) -> Any:
        future = self._push(request)
        if self._failure and future is not None:
            self._answer(future)
        return future

    def _answer(self, future: Any) -> None:
        future.set(beam_fn_api_pb2.InstructionResponse(instruction_id=future.instruction_id, error=self._failure))

    def _read_responses(self) -> None:
        """As Beam's own, but quiet when the process is gone."""
        with suppress(RpcError):
            for response in self.control_conn._input:
                self.control_conn._futures_by_id.pop(response.instruction_id).set(response)

    def _read_data(self, elements: Any) -> None:
        """As Beam's own, but quiet when the process is gone."""
        with suppress(RpcError):
            self._read_inputs(elements)

    def _elements(self, *arguments: Any, **named: Any) -> Iterator[Any]:
        """As Beam's own, but where Beam says only that the channel is closed, it says why the process ended."""
        try:
            yield from self._input_elements(*arguments, **named)
        except RuntimeError as error:
            if self._failed.wait(SECONDS_TO_TELL):
                raise RuntimeError(self._failure) from error
            raise


def last_words(pid: int, code: int, lines: list[str]) -> str:
    """The message about a worker process that died. code: its exit code, below 0 for a signal. lines: its output."""
    if code < 0:
        name = signal.Signals(-code).name if -code in {entry.value for entry in signal.Signals} else f"signal {-code}"
        how = f"was killed ({name})"
        if -code == signal.SIGKILL:
            how += ", by hand or by the system for lack of memory. Fewer --workers leave more memory to each"
    else:
        how = f"ended with exit code {code}"
    said = f": {lines[-1][:300].rstrip('.')}" if lines and code >= 0 else ""
    return f"a worker process (pid {pid}) {how}{said}. Finished work is kept: rerun the command to resume."


def _descriptor(address: str) -> str:
    text: str = text_format.MessageToString(endpoints_pb2.ApiServiceDescriptor(url=address))
    return text
