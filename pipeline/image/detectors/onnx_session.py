"""ONNX files under onnxruntime, for detectors such as those in examples/. What is wrong with a file is one message.

A file is a program that may compute anything: a run is ended after a while, but the memory that its operations ask for
has no limit (SECURITY.md).
"""

import math
import threading
from pathlib import Path
from typing import Any

import numpy as np

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.extras import install_command

try:
    import onnxruntime
except ModuleNotFoundError as error:
    raise UserError(f"A detector from an ONNX file needs onnxruntime. Run `{install_command('onnx')}`.") from error

MAX_SECONDS = 60.0
"""Of a run. One operation that takes longer is not interrupted."""
MAX_NUMBERS = 3 << 24
"""Of the input: 4,096 × 4,096 pixels."""
SILENT = 4
"""Only what ends the process is logged: errors are messages of ours."""


class OnnxSession:
    """A file opened for inference in one thread. shape: of its first input, with names of sides that are free."""

    def __init__(self, weights: str | Path | None, device: str = "cpu") -> None:
        """device: "cpu" or "cuda". Raises UserError if the file is missing or no such model, or its input is too large,
        or there is no such device."""
        if weights is None or not Path(weights).is_file():
            raise UserError(f"{weights}: no such file. Set `images.weights` to the path of an export (.onnx).")
        self.weights = str(weights)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # processes run in parallel
        options.log_severity_level = SILENT
        provider = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
        try:
            self._session = onnxruntime.InferenceSession(self.weights, options, providers=[provider])
        except Exception as error:  # onnxruntime's errors have no common class below Exception
            raise UserError(f"{weights}: onnxruntime cannot load it as an ONNX model ({error}).") from error
        if provider not in self._session.get_providers():  # it would run on the CPU without a message
            raise UserError("onnxruntime cannot use cuda. Install onnxruntime-gpu, or set `images.device: cpu`.")
        inputs = self._session.get_inputs()
        if not inputs:
            raise UserError(f"{weights}: it has no input. Expected an export that takes images.")
        self.shape: list[Any] = list(inputs[0].shape)
        self._input: str = inputs[0].name
        self.outputs: list[str] = [output.name for output in self._session.get_outputs()]
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        if math.prod(side for side in self.shape if isinstance(side, int)) > MAX_NUMBERS:
            raise UserError(f"{weights}: its input is {self.shape}, more than {MAX_NUMBERS:,} numbers.")

    def run(self, pixels: np.ndarray) -> list[np.ndarray]:
        """All outputs for the first input. Raises UserError if the model fails or takes more than MAX_SECONDS."""
        options = onnxruntime.RunOptions()
        options.log_severity_level = SILENT
        ended = threading.Timer(MAX_SECONDS, setattr, (options, "terminate", True))
        ended.start()
        try:
            found: list[np.ndarray] = self._session.run(None, {self._input: pixels}, options)
        except Exception as error:
            why = f"more than {MAX_SECONDS:g} s" if options.terminate else error
            raise UserError(f"{self.weights}: onnxruntime cannot run it ({why}).") from error
        finally:
            ended.cancel()
        if not all(isinstance(output, np.ndarray) and output.dtype.kind in "biuf" for output in found):
            raise UserError(f"{self.weights}: its outputs are not all arrays of numbers.")
        return found
