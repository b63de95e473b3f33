"""What an exported file says of itself: the model's spec, where it comes from, and the proof. Read without running it.

It is one JSON text: in the metadata of an ONNX file, in the `rt_info` of an OpenVINO IR, in a member of a
`torch.export` package. The file may come from a stranger: sizes are bounded, and nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any, Literal
from xml.etree import ElementTree

from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt

from maskwright.config import Part
from maskwright.errors import RunError
from maskwright.predict.extras import imported
from maskwright.predict.formats import SUFFIXES, Format, Precision
from maskwright.predict.model_folder import PRINTED, ModelSpec
from maskwright.versioned import read_versioned

KEY = "maskwright"
LARGEST_PASSPORT = 1 << 20
LARGEST_XML = 1 << 26
LARGEST_MODEL = 2**31 - 1
"""Bytes of an ONNX file: protobuf holds no more."""
LARGEST_GRAPH = 1 << 23
"""Bytes of one beside its weights, of which ours have some hundred thousand: opened, a node of two bytes takes 200."""
WEIGHTS = (7, 5, 9)
"""Where weights lie in ONNX's protobuf: ModelProto.graph, GraphProto.initializer, TensorProto.raw_data."""

LONGEST_TEXT = 1000

Text = Annotated[str, Field(max_length=LONGEST_TEXT, pattern=PRINTED)]
Amount = Annotated[FiniteFloat, Field(ge=0)]
"""JSON has no infinity: a file that carried one could not be opened again."""
Looks = Literal["none", "flips", "scales"]


class Tolerance(Part):
    """What a backend may differ from PyTorch."""

    flipped: Amount
    """Share of all pixels whose class is another one."""
    dice: Amount
    """Of `dice_image`, up or down, the whole interval where there is one."""
    probability: Amount
    """Of the largest difference of a calibrated probability at any pixel."""


class Row(Part):
    """One backend in the gate, against PyTorch on the same pictures."""

    backend: Text
    """Name and version."""
    precision: Precision
    logits: Amount | None
    """Largest difference of a logit; None where it is no number."""
    probability: Amount | None
    """Largest difference of a calibrated probability; None, which is a fault, where it is no number."""
    flipped: NonNegativeInt
    """Pixels whose class differs."""
    pixels: NonNegativeInt
    worst: Amount | None = None
    """Largest share of flipped pixels in any one batch; None in files of earlier versions."""
    dice: FiniteFloat | None
    """`dice_image` of this backend."""
    change: FiniteFloat | None
    """Of `dice_image`, this backend's less PyTorch's."""
    change_ci95: tuple[FiniteFloat, FiniteFloat] | None
    """None where the pictures are too few for an interval that keeps its promise."""
    seconds: tuple[FiniteFloat, FiniteFloat, FiniteFloat]
    """Of one picture at its own size: median, fastest, slowest."""
    faults: tuple[Text, ...] = ()
    """What is over the tolerance; empty: it passes."""

    @property
    def share(self) -> float:
        """Of pixels flipped."""
        return self.flipped / max(self.pixels, 1)


class Proof(Part):
    """That the file is the model that was evaluated."""

    date: Text
    data: Text
    """Name of the data set."""
    fingerprint: Text
    split: Text
    pictures: PositiveInt
    """At their own size, one at a time."""
    shapes: tuple[tuple[PositiveInt, PositiveInt, PositiveInt], ...]
    """N H W of the batches beside them."""
    contract: Text
    """Hash of the metric contract."""
    threads: PositiveInt
    cpu: Text
    tolerance: Tolerance
    reference: Row
    """PyTorch itself, for its Dice and its latency."""
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]
    """The file's own runtime first; what is behind it was tried as well."""

    @property
    def passed(self) -> bool:
        return not self.rows[0].faults


class Passport(Part):
    """Everything that is not a weight."""

    format: Literal[1] = 1
    run: Text
    """Name of the run or model folder."""
    spec: ModelSpec
    tta: Looks = "none"
    """Looks that are inside the file."""
    precision: Precision = "fp32"
    kept: tuple[Text, ...] = ()
    """Layers that int8 left in fp32."""
    weights: Text = ""
    """SHA-256 of the model folder's weights."""
    receipt: dict[Text, Text] = Field(default_factory=dict)
    """What the run was made with, for people."""
    scores: dict[Text, FiniteFloat | None] = Field(default_factory=dict)
    """`dice_image` of the run by split."""
    versions: dict[Text, Text] = Field(default_factory=dict)
    """Of what the file was made with."""
    digest: Text = ""
    """SHA-256 of the file without this text."""
    proof: Proof | None = None

    def to_json(self) -> str:
        return self.model_dump_json()


def read_passport(path: Path) -> Passport:
    """Of an .onnx, .xml or .pt2 file. Raises RunError: damaged, of another tool, of another version."""
    return read_versioned(Passport, _text_of(path), f"the metadata of {path}", "export it again")


def is_exported(path: Path) -> bool:
    """Whether a path looks like an exported file: by its ending."""
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def is_ours(path: Path) -> bool:
    """Whether a file carries a passport, of whatever version."""
    try:
        return bool(_text_of(path))
    except RunError:
        return False


def _text_of(path: Path) -> str:
    readers: dict[Format, Callable[[Path], str | None]] = {
        "onnx": _in_onnx,
        "openvino": _in_openvino,
        "torch": _in_torch,
    }
    with _readable(path):
        text = readers[SUFFIXES[path.suffix.lower()]](path)
    if text is None:
        raise RunError(
            f"{path} was not exported by maskwright: it carries no {KEY!r} metadata",
            "export it with `maskwright export RUN`; classes and sizes cannot be guessed",
        )
    if len(text) > LARGEST_PASSPORT:
        raise RunError(f"{path} carries over a megabyte of metadata", "this is not a file of ours")
    return text


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """What reading a damaged file raises, or one that is not there, becomes a RunError."""
    try:
        yield
    except FileNotFoundError as error:
        raise RunError(f"there is no file {path}", "`maskwright export RUN` writes one") from error
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}", "check the path") from error
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError) as error:
        # RuntimeError: encrypted, of an unknown version (NotImplementedError), nested too deep (RecursionError);
        # ValueError: no UTF-8 (UnicodeDecodeError), or places before the beginning of the file.
        raise RunError(f"{path} is damaged or cut short: {error}", "copy or export it again") from error


def parse_onnx(path: Path) -> Any:
    """The ModelProto of a file. Raises RunError: cut short, too large, no ONNX, with weights outside of it, or the
    package onnx is not installed; OSError."""
    onnx = imported("onnx")
    from google.protobuf.message import DecodeError

    size = path.stat().st_size
    if size > LARGEST_MODEL:
        raise RunError(f"{path} has {size:,} bytes, ONNX files end at 2 GiB", "this is not a file of ours")
    content = path.read_bytes()
    if any(size > LARGEST_GRAPH for size in accumulate(_beside_weights(memoryview(content), WEIGHTS))):
        raise RunError(
            f"{path} holds over {LARGEST_GRAPH >> 20} MiB beside its weights", "this is not a file of ours"
        )
    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise RunError(
            f"{path} is damaged or cut short, or no ONNX file", "copy or export it again"
        ) from error
    if not model.graph.node:
        raise RunError(f"{path} is damaged or cut short: it holds no graph", "copy or export it again")
    outside = onnx.TensorProto.EXTERNAL
    if any(tensor.external_data or tensor.data_location == outside for tensor in _tensors(model)):
        raise RunError(f"{path} names weights in other files, which are not read", "export it in one file")
    return model


def _beside_weights(message: memoryview, weights: Sequence[int]) -> Iterator[int]:
    """Bytes of a protobuf message outside of `weights` (numbers of fields, each inside the one before), field by field.

    Counted before protobuf reads them, which takes up to a hundred bytes of memory for one of the file.
    """
    begin = 0
    while begin < len(message):
        number, start, end = _field(message, begin)
        if number != weights[0]:
            yield end - begin
        else:
            yield start - begin
            if weights[1:]:
                yield from _beside_weights(message[start:end], weights[1:])
        begin = end


def _field(message: memoryview, begin: int) -> tuple[int, int, int]:
    """Number of the field at `begin`, and where its content starts and ends; 0, which no field has, where that is a
    number. What is damaged, or of a kind that ours do not have, goes on to the end."""
    key, start = _varint(message, begin)
    if key & 7 == 0:
        return 0, start, _varint(message, start)[1]
    length, start = _varint(message, start)
    if key & 7 != 2:
        return 0, start, len(message)
    return key >> 3, start, min(start + length, len(message))


def _varint(message: memoryview, begin: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and where it ends."""
    number = 0
    for place in range(begin, min(begin + 10, len(message))):
        number |= (message[place] & 127) << 7 * (place - begin)
        if message[place] < 128:
            return number, place + 1
    return 0, len(message)


def _tensors(message: Any) -> Iterator[Any]:
    """Every TensorProto inside, however deep: branches, attributes, sparse tensors and functions hold some as well."""
    from google.protobuf.message import Message

    if message.DESCRIPTOR.name == "TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in [value] if isinstance(value, Message) else value:
                yield from _tensors(inner)


def _in_onnx(path: Path) -> str | None:
    for entry in parse_onnx(path).metadata_props:
        if entry.key == KEY:
            return str(entry.value)
    return None


def onnx_digest(model: Any) -> str:
    """Of all that is computed: nodes, weights, inputs and outputs, operators; not of the metadata."""
    versions = ",".join(f"{one.domain}:{one.version}" for one in model.opset_import)
    found = hashlib.sha256(model.graph.SerializeToString(deterministic=True))
    for function in model.functions:
        found.update(function.SerializeToString(deterministic=True))
    found.update(versions.encode())
    return found.hexdigest()


def _in_openvino(path: Path) -> str | None:
    found = parse_ir(path).find(f"./rt_info/{KEY}")
    return None if found is None else found.get("value")


def parse_ir(path: Path) -> ElementTree.Element:
    """The XML of an OpenVINO IR, in UTF-8 as OpenVINO writes it. Raises RunError: too large, or no XML;
    UnicodeDecodeError, OSError."""
    if path.stat().st_size > LARGEST_XML:
        raise RunError(f"{path} is larger than {LARGEST_XML >> 20} MiB", "this is not a file of ours")
    text = path.read_bytes().decode("utf-8")  # in another encoding declarations would go unseen
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise RunError(f"{path} declares XML entities", "this is not a file of ours")
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise RunError(f"{path} is damaged or cut short: {error}", "copy or export it again") from error


def ir_digest(path: Path) -> str:
    """Of the layers, their wiring and the weights beside them; not of what is told about them. Raises RunError."""
    root = parse_ir(path)
    parts = [ElementTree.tostring(part) for part in root if part.tag in ("layers", "edges")]
    found = hashlib.sha256(b"".join(parts))
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise RunError(f"{weights}, the weights of {path}, is missing", "copy both files")
    with open(weights, "rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def _in_torch(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        for entry in _entries(archive, path):
            if entry.filename.endswith(f"extra/{KEY}.json"):
                with archive.open(entry) as member:  # one byte too many is told like all that is too long
                    return member.read(LARGEST_PASSPORT + 1).decode("utf-8")
    return None


def torch_digest(path: Path) -> str:
    """Of every member of the package but the passport. Raises RunError, or what zipfile raises of a damaged one."""
    found = hashlib.sha256()
    with zipfile.ZipFile(path) as archive:
        for entry in sorted(_entries(archive, path), key=lambda entry: entry.filename):
            if entry.filename.endswith(f"extra/{KEY}.json") or "/.data/" in entry.filename:
                continue  # torch numbers its packages there
            found.update(entry.filename.encode())
            with archive.open(entry) as member:
                while block := member.read(1 << 20):
                    found.update(block)
    return found.hexdigest()


def _entries(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    """Raises RunError where they would grow: torch stores its members as they are, each in a place of its own."""
    entries = archive.infolist()
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED:
            raise RunError(f"{path} holds {entry.filename!r} compressed", "this is not a file of ours")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise RunError(f"{path} has members that lie in one another", "this is not a file of ours")
    return entries


def files_of(path: Path) -> list[Path]:
    """The file, and before it the weights of an OpenVINO IR."""
    return [path.with_suffix(".bin"), path] if path.suffix.lower() == ".xml" else [path]


def digest_of(path: Path) -> str:
    """What `Passport.digest` has to be. Raises RunError: damaged, incomplete, cannot be read."""
    kind = SUFFIXES[path.suffix.lower()]
    with _readable(path):
        if kind == "onnx":
            return onnx_digest(parse_onnx(path))
        return ir_digest(path) if kind == "openvino" else torch_digest(path)


def as_text(words: str) -> str:
    """What `Text` takes of it: one line that is not too long."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in words).split())[
        :LONGEST_TEXT
    ]
