"""Writing torch's format, a zip archive, from where the tensors are in memory.

Not by way of ``torch.save``, which asks for the interpreter's lock five times a tensor; training
stands still each time. Reading such a file is torch's own work.
"""

from __future__ import annotations

import io
import pickle
import re
import struct
import sys
import zlib
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from hookloop.plain import unsavable

if TYPE_CHECKING:
    from torch import Tensor

    from hookloop.files import Out

#: What stands for a storage until all is pickled: text of the name of the pickle and a number.
_PLACEHOLDER = re.compile(rb"X\x28\0\0\0([0-9a-f]{32})([0-9a-f]{8})")
#: What a zip archive says of sizes and places that stand in their newer, larger form beside it.
_ELSEWHERE = 0xFFFFFFFF
_STORAGES = {
    **{"float64": "Double", "float32": "Float", "float16": "Half", "bfloat16": "BFloat16"},
    **{"int64": "Long", "int32": "Int", "int16": "Short", "int8": "Char", "uint8": "Byte"},
    **{"bool": "Bool", "complex128": "ComplexDouble", "complex64": "ComplexFloat"},
}


def write_torch(saved: Any, out: Out, remark: Callable[[], bytes] = bytes) -> None:
    """Write plain data and tensors as ``torch.save`` does; ``torch.load`` is the way back.

    Args:
        saved: What to write.
        out: Where to.
        remark: Gives what the file ends with, unseen by who loads it: at most 65,535 bytes. It is
            called when all before that was written, but for the two bytes that say its length.
    """
    import torch

    pickler = _Pickler()
    text = pickler.pickled(saved)
    archive = _Archive(out)
    archive.add("data.pkl", text)
    archive.add("byteorder", sys.byteorder.encode())
    for key, storage in enumerate(pickler.storages):
        values = torch.empty(0, dtype=torch.uint8).set_(storage.cpu())
        archive.add(f"data/{key}", values.numpy().data)
    archive.add("version", b"3\n")
    archive.end()
    comment = remark()
    out.write(struct.pack("<H", len(comment)) + comment)


class _Pickler(pickle.Pickler):
    """Pickles as torch does: in place of each storage stands its number among `storages`.

    With `persistent_id`, which is meant for that, every number of a list would be asked whether it
    is a storage. Here a storage is text that occurs nowhere else, and is replaced afterwards.

    Attributes:
        storages: Those that were met, by number.
    """

    def __init__(self) -> None:
        self._text, self._name = io.BytesIO(), uuid4().hex
        self._kinds = _kinds()
        self._numbers: dict[Any, int] = {}
        self._references: list[bytes] = []
        self.storages: list[Any] = []
        super().__init__(self._text, protocol=2)  # the only protocol that ``weights_only`` reads

    def pickled(self, saved: Any) -> bytes:
        self.dump(saved)
        return _PLACEHOLDER.sub(self._reference, self._text.getvalue())

    def _reference(self, found: re.Match[bytes]) -> bytes:
        ours = found[1] == self._name.encode()
        return self._references[int(found[2], 16)] if ours else found[0]

    def reducer_override(self, value: Any) -> Any:
        import torch

        if torch.is_storage(value):
            raise unsavable(value, "an attribute of a tensor")
        if not isinstance(value, torch.Tensor):
            return NotImplemented
        simple, kind = _is_simple(value), self._kinds.get(value.dtype)
        if simple and value.nbytes > value.untyped_storage().nbytes():
            value = value.contiguous()  # expanded: written whole, as readers look at its size
        if kind is None or not simple:
            return self._without_storages(value.__reduce_ex__(2))
        storage = value.untyped_storage()
        held = self._placeholder(storage, kind, storage.nbytes() // value.itemsize)
        hooks: OrderedDict[Any, Any] = OrderedDict()
        view = (value.storage_offset(), tuple(value.size()), value.stride())
        return torch._utils._rebuild_tensor_v2, (held, *view, False, hooks)

    def _without_storages(self, value: Any) -> Any:
        import torch

        if type(value) is tuple:
            return tuple(map(self._without_storages, value))
        if not torch.is_storage(value):
            return value
        if isinstance(value, torch.storage.TypedStorage):
            storage, size = value._untyped_storage, value._size()  # type: ignore[no-untyped-call]
            return self._placeholder(storage, value._pickle_storage_type(), size)  # type: ignore[no-untyped-call]
        return self._placeholder(value, "UntypedStorage", value.nbytes())

    def _placeholder(self, storage: Any, kind: str, size: int) -> str:
        number = self._numbers.setdefault((storage._cdata, kind), len(self.storages))
        if number == len(self.storages):
            self.storages.append(storage)
            self._references.append(_reference(kind, number, size))
        return f"{self._name}{number:08x}"


def _is_simple(value: Tensor) -> bool:
    """Tell whether a tensor is nothing but a view of a storage: nearly all are."""
    import torch

    plain = type(value) is torch.Tensor and value.layout is torch.strided and value.is_cpu
    odd = value.is_nested or value.is_conj() or value.is_neg() or value._is_zerotensor()
    return plain and not odd and not value.requires_grad and not value.__dict__


@cache
def _kinds() -> dict[Any, str]:
    """Give the names of torch's typed storages; newer types have none."""
    import torch

    return {getattr(torch, kind): f"{name}Storage" for kind, name in _STORAGES.items()}


def _reference(kind: str, number: int, size: int) -> bytes:
    """Pickle what torch knows a storage by: its type, its number as text, its size in elements."""
    key = str(number).encode()
    home = "torch.storage" if kind == "UntypedStorage" else "torch"
    parts = [b"(X\x07\0\0\0storage", f"c{home}\n{kind}\n".encode()]
    parts += [b"X" + struct.pack("<I", len(key)) + key, b"X\x03\0\0\0cpu"]
    return b"".join([*parts, b"\x8a\x08" + struct.pack("<q", size), b"tQ"])


class _Archive:
    """Writes a zip archive in one go, each part as one of more than 4 GB would have to be.

    By hand, as ``zipfile`` takes longer for a small tensor than all else that is done with it.
    """

    def __init__(self, out: Out) -> None:
        self._out, self._at, self._entries = out, 0, list[bytes]()

    def add(self, name: str, content: bytes | memoryview) -> None:
        """Add a part whose content begins at a multiple of 64 bytes, so that it can be mapped."""
        path, size, begin = f"archive/{name}".encode(), len(content), self._at
        gap = -(begin + 54 + len(path)) % 64
        kind = struct.pack("<5HL2L", 45, 0, 0, 0, 33, zlib.crc32(content), _ELSEWHERE, _ELSEWHERE)
        extra = struct.pack("<2H2Q2sH", 1, 16, size, size, b"FB", gap) + bytes(gap)
        self._write(b"PK\3\4" + kind + struct.pack("<2H", len(path), len(extra)) + path + extra)
        self._write(content)
        extra = struct.pack("<2H3Q", 1, 24, size, size, begin)
        about = struct.pack("<5H2L", len(path), len(extra), 0, 0, 0, 0, _ELSEWHERE)
        self._entries.append(b"PK\1\2\x2d\0" + kind + about + path + extra)

    def end(self) -> None:
        """Write the table of contents, but for the length of the comment that ends it."""
        begin, table, count = self._at, b"".join(self._entries), len(self._entries)
        self._write(table)
        places = (count, count, len(table), begin)
        whole = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, *places)
        whole += struct.pack("<4sLQL", b"PK\6\7", 0, self._at, 1)
        told = (0, 0, 0xFFFF, 0xFFFF, _ELSEWHERE, _ELSEWHERE)
        self._write(whole + struct.pack("<4s4H2L", b"PK\5\6", *told))

    def _write(self, data: bytes | memoryview) -> None:
        self._out.write(data)
        self._at += len(data)
