"""The formats of saved states and weights. Reading one never runs code."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from hookloop import __version__, files, reading, state
from hookloop.encoding import decode, encode
from hookloop.errors import StateError
from hookloop.limits import LONGEST_JSON, LONGEST_PICKLE, header_length, weigh
from hookloop.plain import bytes_of
from hookloop.torch_format import write_torch

if TYPE_CHECKING:
    from torch import Tensor, nn

_SUM, _HEADER_SUM = "hookloop.sha256", "hookloop.header.sha256"
#: What safetensors calls the types of torch.
_KINDS = {
    **{"bool": "BOOL", "bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64"},
    **{"int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64", "complex64": "C64"},
    **{"uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64"},
    **{"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"},
}
#: What a state folder is made of.
STATE_FILES = ("state.json", "tensors.safetensors", reading.MANIFEST)


def save_state(path: str | os.PathLike[str], saved: Mapping[str, Any]) -> None:
    """Save a run's state: as a ``.pt`` file, or, for a path without a suffix, as a folder.

    Args:
        path: Where to.
        saved: What ``loop.state_dict()`` gave.

    Raises:
        FileError: If it cannot be written; what was there before is there still.
    """
    if Path(path).suffix:
        files.atomic_write(path, pt_writer(saved), needed=partial(bytes_of, saved))
    else:
        about = {"made": _made()}
        files.replace_folder(
            path, _folder_contents(saved), needed=partial(bytes_of, saved), about=about
        )


def _made() -> dict[str, str]:
    """Tell when and with what a state is saved: nothing of the machine, nor of who runs it."""
    import datetime
    import platform

    import torch

    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    versions = {"hookloop": __version__, "torch": str(torch.__version__)}
    return {"date": date, **versions, "python": platform.python_version()}


def load_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a run's state, checked whole.

    Args:
        path: A ``.pt`` file or a state folder.

    Raises:
        StateError: If it is not there, is damaged, or is no state of a run.
    """
    saved = read_state(path)
    saved.pop("made", None)
    return saved


def read_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a run's state as `load_state` does, with ``made``: when and with what it was saved.

    States of hookloop 0.1.0 lack that.

    Raises:
        StateError: As `load_state`.
    """
    source = reading.whole_folder(path)
    if not source.exists():
        raise StateError(f"{source} does not exist.", fix="name a .pt file or a state folder")
    if source.is_dir():
        saved = {**_read_folder(source), "made": reading.read_manifest(source).get("made")}
    else:
        saved = read_pt(source)
    state.check_format(saved)
    return saved


def delete_state(path: str | os.PathLike[str]) -> None:
    """Delete a state folder, also a damaged one; what is not ours in it stays, with the folder."""
    files.delete_folder(path, STATE_FILES)


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Read a model's weights from anything that hookloop wrote.

    Args:
        model: The module to fill; nothing in it changes unless all weights fit.
        path: A ``.pt``, weights-only or ``.safetensors`` file, or a state folder.

    Raises:
        StateError: If the file is damaged, or its weights do not fit the model.
    """
    weights = load_checkpoint(path)
    try:
        wrong = state.differences(model, weights)
        if wrong:  # torch would find out only after it has changed the others
            raise RuntimeError("; ".join(wrong[:4]))
        model.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        message = f"The weights in {os.fspath(path)} are of another model: {error}."
        raise StateError(message, fix="build the model as it was when they were saved") from None


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a model's weights by name, from anything that hookloop wrote, onto the CPU.

    Args:
        path: A ``.pt``, weights-only or ``.safetensors`` file, or a state folder.

    Returns:
        What ``model.load_state_dict`` takes.

    Raises:
        StateError: If it is not there, is damaged, or holds no weights.
    """
    source = reading.whole_folder(path)
    if not source.exists():
        raise StateError(f"{source} does not exist.", fix="name a file that was saved")
    if source.is_dir():
        return _weights(source, load_state(source)["model"])
    if not is_of_torch(source):
        return _read_safetensors(source)
    saved = read_pt(source)
    if saved.get("format") == state.FORMAT:
        state.check_format(saved)
        saved = saved["model"]
    return _weights(source, saved)


def is_of_torch(path: Path) -> bool:
    """Tell by its first bytes whether a file is in torch's format, which is a zip archive."""
    with reading.open_plain(path) as file:
        return file.read(2) == b"PK"


def _weights(source: Path, found: Any) -> dict[str, Tensor]:
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise _damaged(source, ValueError("its weights have no names"))
    return dict(found)


def pt_writer(saved: Mapping[str, Any], record: str = "") -> Callable[[IO[bytes]], None]:
    """Give a function that writes plain data and tensors in torch's format.

    The file ends with its own SHA-256 sum, in the comment that ends a zip file: the CRCs inside
    leave out what is between its parts, and torch does not look at them.

    Args:
        saved: What to write.
        record: Text that stands in that comment before the sum, unseen by who loads the file.
    """

    def write(file: IO[bytes]) -> None:
        try:
            weigh(saved, math.inf)
        except ValueError as error:
            message = f"The state cannot be saved: {error}."
            raise StateError(message, fix="keep less in it, or in tensors") from None
        is_state = saved.get("format") == state.FORMAT
        summed = files.Summed(file)
        with summed.buffered() as out:

            def remark() -> bytes:
                out.flush()
                summed.sum.update(b"\0\0" + record.encode())
                return record.encode() + summed.sum.hexdigest().encode()

            write_torch({**saved, "made": _made()} if is_state else saved, out, remark)

    return write


def pt_record(path: str | os.PathLike[str]) -> str:
    """Read the text that `pt_writer` was given for the end of the file."""
    with zipfile.ZipFile(path) as archive:
        return archive.comment[:-64].decode()


def safetensors_writer(
    weights: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None, *, summed: bool = True
) -> Callable[[files.Out], None]:
    """Give a function that writes weights from where they are in memory, without another copy.

    Args:
        weights: Tensors by name.
        metadata: What else the file says of itself.
        summed: Whether that includes the SHA-256 sums of header and data, which is one more reading
            of them: they stand before the data. Not needed where a manifest has the file's sum.
    """

    def write(out: files.Out) -> None:
        # Larger elements first, so that each tensor begins at a multiple of its element's size.
        order = sorted(weights.items(), key=lambda item: -item[1].element_size())
        own = {**(metadata or {}), "format": "pt"}
        if summed:
            total = hashlib.sha256()
            for _, value in order:
                total.update(_memory(value))
            own[_SUM] = total.hexdigest()
        header: dict[str, Any] = {"__metadata__": own}
        end = 0
        for name, value in order:
            begin, end = end, end + value.nbytes
            offsets = {"shape": list(value.shape), "data_offsets": [begin, end]}
            header[name] = {"dtype": _kind(name, value), **offsets}
        if summed:
            own[_HEADER_SUM] = reading.sum_of(header)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        out.write(struct.pack("<Q", len(text)) + text)
        for _, value in order:
            out.write(_memory(value))

    return write


def safetensors_bytes(
    weights: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> bytes:
    """Serialize weights; the SHA-256 sum of the data stands in the metadata, with what is given."""
    whole = io.BytesIO()
    safetensors_writer(weights, metadata)(whole)
    return whole.getvalue()


def _kind(name: str, value: Tensor) -> str:
    kind = _KINDS.get(str(value.dtype).removeprefix("torch."))
    if kind is None or str(value.layout) != "torch.strided":
        message = f"{name} is a {value.layout} tensor of {value.dtype}; safetensors holds none."
        raise StateError(message, fix="convert it, or save in torch's format, as .pt")
    return kind


def _memory(value: Tensor) -> memoryview:
    """Give a tensor's bytes, as they are in memory; those of one that is not dense are copied."""
    import torch

    dense = value.detach().cpu().contiguous()
    return dense.reshape(-1).view(torch.uint8).numpy().data


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with reading.open_plain(path) as file:
        try:
            header_length(file.read(8), os.fstat(file.fileno()).st_size)
            file.seek(0)
            return _from_safetensors(file.read())
        except ValueError as error:
            raise _damaged(path, error) from None


def _from_safetensors(whole: bytes, *, summed: bool = False) -> dict[str, Tensor]:
    """Read tensors by name.

    Args:
        whole: The file.
        summed: Whether a sum of all of it was compared already.

    Raises:
        ValueError: If they are damaged.
    """
    import safetensors.torch
    from safetensors import SafetensorError

    length = header_length(whole[:8], len(whole))
    try:
        header = reading.read_json(whole[8 : 8 + length])
        own = header.get("__metadata__") or {}
        tensors: dict[str, Tensor] = safetensors.torch.load(whole)
    except (SafetensorError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if not summed and (_SUM in own or _HEADER_SUM in own):  # else somebody else wrote it
        of_header, of_data = own.pop(_HEADER_SUM, None), own.get(_SUM)
        data = hashlib.sha256(whole[8 + length :]).hexdigest()
        if of_header != reading.sum_of(header) or of_data != data:
            said = f"{data:.16}, and its metadata say {of_data!s:.16}"
            raise ValueError(f"the SHA-256 sum of its data is {said}, or its header has changed")
    return tensors


def read_pt(path: Path) -> dict[str, Any]:
    """Read plain data and tensors from a file in torch's format, checked whole.

    Raises:
        StateError: If it is damaged, or holds anything else.
    """
    import torch

    with reading.open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            _check_zip(file, size)
            saved = torch.load(path, map_location="cpu", weights_only=True)
            weigh(saved, max(size, 2**24))
        except pickle.UnpicklingError as error:
            message = f"{path} holds more than plain data and tensors, and was not loaded."
            raise StateError(message, fix="use only files that hookloop wrote") from error
        except Exception as error:  # readers of damaged archives raise almost anything
            raise _damaged(path, error) from None
    if not isinstance(saved, dict):
        raise StateError(f"{path} holds a {type(saved).__name__}.", fix="use a file of hookloop's")
    return saved


def _check_zip(file: IO[bytes], size: int) -> None:
    """Refuse an archive that is damaged or larger than it seems, before torch reads it."""
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
            raise ValueError("it is compressed, as nothing of torch's is")
        pickled = [part.file_size for part in parts if part.filename.endswith(".pkl")]
        if sum(part.file_size for part in parts) > size or sum(pickled) > LONGEST_PICKLE:
            raise ValueError("its parts are said to be larger than it is, or than any state")
        _check_sum(file, archive)


def _check_sum(file: IO[bytes], archive: zipfile.ZipFile) -> None:
    """Raise ValueError if a zip file has changed: by its own sum, or by the CRCs if it has none."""
    comment = archive.comment
    left = file.seek(-2 - len(comment), os.SEEK_END)
    if file.read(2) != struct.pack("<H", len(comment)):
        raise ValueError("its end is not where it says")
    if not comment and (broken := archive.testzip()):  # torch itself does not look at them
        raise ValueError(f"the CRC of {broken} is wrong")
    total = hashlib.sha256()
    file.seek(0)
    while comment and left and (piece := file.read(min(left, 2**20))):
        total.update(piece)
        left -= len(piece)
    total.update(b"\0\0" + comment[:-64])
    if comment and total.hexdigest().encode() != comment[-64:]:
        said = f"{total.hexdigest():.16}, and its last bytes say {comment[-64:]!r:.18}"
        raise ValueError(f"its SHA-256 sum is {said}")


def _damaged(path: Path, error: Exception) -> StateError:
    return StateError(f"{path} is damaged or of another format: {error}.", fix="use an older one")


# -- state folders ---------------------------------------------------------------


def _folder_contents(saved: Mapping[str, Any]) -> dict[str, bytes | Callable[[files.Out], None]]:
    tensors: dict[str, Tensor] = {}
    text = _text(saved, tensors).encode()
    if len(text) > LONGEST_JSON:
        message = f"The state has {len(text):,} bytes beside its tensors, of {LONGEST_JSON:,}."
        raise StateError(message, fix="keep less in it, or in tensors")
    write = safetensors_writer(tensors, summed=False)
    return {"state.json": text, "tensors.safetensors": write}


def _read_folder(path: Path) -> dict[str, Any]:
    contents = reading.read_folder(path)
    try:
        text = contents["state.json"]
        if len(text) > LONGEST_JSON:
            raise ValueError(f"state.json has {len(text):,} bytes")
        tensors = _from_safetensors(contents["tensors.safetensors"], summed=True)
        decoded: dict[str, Any] = decode(reading.read_json(text), tensors)
        if not isinstance(decoded, dict):
            raise ValueError(f"state.json holds a {type(decoded).__name__}")
    except Exception as error:  # the manifest fits, so this is no damage but another format
        raise _damaged(path, error) from None
    return decoded


def as_json(saved: Mapping[str, Any]) -> dict[str, str]:
    """Give a state as what JSON can hold, for frameworks whose checkpoints hold nothing else.

    Args:
        saved: Plain data and tensors.

    Returns:
        Two texts: the plain data, whose order no writer of JSON can change then, and all tensors
        as safetensors in base64.

    Raises:
        StateError: If the state holds anything else.
    """
    tensors: dict[str, Tensor] = {}
    return {
        "plain": _text(saved, tensors),
        "tensors": base64.b64encode(safetensors_bytes(tensors)).decode(),
    }


def from_json(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Read what `as_json` gave.

    Raises:
        StateError: If it is damaged, or is something else.
    """
    try:
        tensors = _from_safetensors(base64.b64decode(saved["tensors"], validate=True))
        decoded: dict[str, Any] = decode(reading.read_json(saved["plain"]), tensors)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        message = f"A state in JSON is damaged or of another format: {error}."
        raise StateError(message, fix="use an older checkpoint") from None
    return decoded


def _text(saved: Mapping[str, Any], tensors: dict[str, Tensor]) -> str:
    return json.dumps(encode(saved, "", tensors), allow_nan=False, separators=(",", ":"))
