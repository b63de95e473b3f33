"""Runtimes that answer for an exported file: a batch of pictures in, what is asked for out."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from maskwright.errors import RunError
from maskwright.predict.extras import imported
from maskwright.predict.formats import SUFFIXES, Format, Precision
from maskwright.predict.memory import OutOfMemory, out_of_memory
from maskwright.predict.passport import parse_onnx

INPUT = "images"
OUTPUTS = ("mask", "probabilities", "calibrated", "logits")

Pictures = UInt8[np.ndarray, "N H W C"]


class Backend(Protocol):
    """An opened file."""

    @property
    def name(self) -> str:
        """Of the runtime, with its version."""
        ...

    def __call__(self, images: Pictures, outputs: Sequence[str]) -> list[NDArray[Any]]:
        """What OUTPUTS are called `outputs`, in that order. Raises RunError where the runtime fails."""
        ...


class OnnxRuntime:
    """ONNX Runtime on the CPU."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self._begin(parse_onnx(path), path, threads)
        self._session(OUTPUTS[:2])  # what it does not take is told now

    @classmethod
    def of_graph(cls, model: Any, threads: int | None = None) -> OnnxRuntime:
        """Of an onnx.ModelProto that lies in no file."""
        made = cls.__new__(cls)
        made._begin(model, Path("the graph"), threads)
        return made

    def _begin(self, model: Any, path: Path, threads: int | None) -> None:
        self._runtime = imported("onnxruntime")
        self._options = self._runtime.SessionOptions()
        self._options.intra_op_num_threads = threads or 0
        self._options.log_severity_level = 3
        self.name = f"ONNX Runtime {self._runtime.__version__}"
        self._model, self._path = model, path
        self._sessions: dict[tuple[str, ...], Any] = {}
        self._changing = threading.Lock()

    def __call__(self, images: Pictures, outputs: Sequence[str]) -> list[NDArray[Any]]:
        session = self._session(tuple(outputs))
        try:
            found: list[NDArray[Any]] = session.run(list(outputs), {INPUT: images})
        except Exception as error:  # the runtime has a class of errors for each of its codes, all Exceptions
            raise _failed(self._path, self.name, images, error) from error
        return found

    def _session(self, outputs: tuple[str, ...]) -> Any:
        """One whose graph ends in these: whatever is fetched, the runtime computes all outputs that a graph has."""
        with self._changing:  # the graph is the same for all threads
            if outputs not in self._sessions:
                self._sessions[outputs] = self._opened(outputs)
            return self._sessions[outputs]

    def _opened(self, outputs: tuple[str, ...]) -> Any:
        graph = self._model.graph
        every = list(graph.output)
        del graph.output[:]
        graph.output.extend(value for value in every if value.name in outputs)
        try:
            return self._runtime.InferenceSession(
                self._model.SerializeToString(), self._options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise _refused(self._path, self.name, error) from error
        finally:
            del graph.output[:]
            graph.output.extend(every)


class OpenVino:
    """OpenVINO on the CPU; reads ONNX files as well."""

    def __init__(self, path: Path, precision: Precision = "fp32", threads: int | None = None) -> None:
        openvino = imported("openvino")
        if path.suffix.lower() == ".onnx":
            parse_onnx(path)
        self.name = f"OpenVINO {openvino.__version__.partition('-')[0]}"
        self._path = path
        # Left to itself it computes in bf16 where the processor can, and one pixel in forty flips.
        self._hints = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
        if threads:
            self._hints["INFERENCE_NUM_THREADS"] = str(threads)
        self._core = openvino.Core()
        self._compiled: dict[tuple[str, ...], Any] = {}
        self._asking = threading.Lock()
        try:
            self._model = self._core.read_model(path)
        except Exception as error:  # RuntimeError, or whatever its reader of this kind of file raises
            raise _refused(path, self.name, error) from error

    def __call__(self, images: Pictures, outputs: Sequence[str]) -> list[NDArray[Any]]:
        try:
            with self._asking:  # a request is busy until it is answered
                found = self._asked(tuple(outputs))(images, share_inputs=True, share_outputs=False)
                return [found[place] for place in range(len(outputs))]
        except RuntimeError as error:
            raise _failed(self._path, self.name, images, error) from error

    def _asked(self, outputs: tuple[str, ...]) -> Any:
        """The model that says these outputs and computes nothing else."""
        if outputs not in self._compiled:
            from openvino import Model

            results = [self._model.output(name) for name in outputs]
            part = Model(results, self._model.get_parameters(), "maskwright")
            self._compiled[outputs] = self._core.compile_model(
                part, "CPU", self._hints
            ).create_infer_request()
        return self._compiled[outputs].infer


class TorchPackage:
    """A `torch.export` package of our own making: torch unpickles parts of one, so a stranger's is never opened."""

    def __init__(self, path: Path) -> None:
        import torch

        self.name = f"torch.export {torch.__version__}"
        self._module = torch.export.load(path).module()

    def __call__(self, images: Pictures, outputs: Sequence[str]) -> list[NDArray[Any]]:
        import torch

        with torch.inference_mode():
            said = self._module(torch.from_numpy(np.require(images, requirements=["C", "W"])))
        return [said[OUTPUTS.index(name)].numpy() for name in outputs]


def open_backend(path: Path, precision: Precision, threads: int | None = None) -> Backend:
    """The runtime of a file: ONNX Runtime for .onnx, OpenVINO for .xml. Raises RunError."""
    kind: Format = SUFFIXES[path.suffix.lower()]
    if kind == "torch":
        raise RunError(
            f"{path} is a torch.export package, parts of which torch unpickles",
            "predict with the run, or with `maskwright export RUN --format onnx`; your own programs may load it with "
            "torch.export.load",
        )
    return OnnxRuntime(path, threads) if kind == "onnx" else OpenVino(path, precision, threads)


def _refused(path: Path, runtime: str, error: Exception) -> RunError:
    return RunError(f"{runtime} does not take {path}: {_short(error)}", "copy or export it again")


def _failed(path: Path, runtime: str, images: Pictures, error: Exception) -> RunError:
    shape = " x ".join(map(str, images.shape))
    if out_of_memory(error):
        return OutOfMemory(f"{runtime} has too little memory for pictures of {shape} with {path}", "tile")
    return RunError(
        f"{runtime} failed at pictures of {shape} with {path}: {_short(error)}", "export it again, or tile"
    )


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
