"""Writing torch's format, a zip archive, from where the tensors are in memory.

Not by way of ``torch.save``, which asks for the interpreter's lock five times a tensor; training
stands still each time. Reading such a file is torch's own work.
"""

from __future__ import annotations

import io
import pickle
import struct
import sys
import zipfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hookloop.files import Out


def write_torch(saved: Any, out: Out) -> None:
    """Write plain data and tensors as ``torch.save`` does; ``torch.load`` is the way back.

    Args:
        saved: What to write.
        out: Where to.
    """
    import torch

    text, storages = _pickled(saved)
    with zipfile.ZipFile(_Stream(out), "w") as archive:
        _add(archive, "data.pkl", text)
        _add(archive, "byteorder", sys.byteorder.encode())
        for key, storage in enumerate(storages):
            values = torch.empty(0, dtype=torch.uint8).set_(storage.cpu())
            _add(archive, f"data/{key}", values.numpy().data)
        _add(archive, "version", b"3\n")


def _pickled(saved: Any) -> tuple[bytes, list[Any]]:
    """Pickle as torch does: in place of each storage stands its number among those returned."""
    import torch

    keys: dict[Any, int] = {}
    storages: list[Any] = []

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> tuple[Any, ...] | None:
            if not torch.is_storage(value):
                return None
            if isinstance(value, torch.storage.TypedStorage):
                storage, size = value._untyped_storage, value._size()  # type: ignore[no-untyped-call]
                kind = getattr(torch, value._pickle_storage_type())  # type: ignore[no-untyped-call]
            else:
                storage, size, kind = value, value.nbytes(), torch.UntypedStorage
            key = keys.setdefault((storage._cdata, kind), len(keys))
            storages[key:] = storages[key:] or [storage]
            return "storage", kind, str(key), "cpu", size

    text = io.BytesIO()
    Pickler(text, protocol=2).dump(saved)  # the only protocol that ``weights_only`` reads
    return text.getvalue(), storages


def _add(archive: zipfile.ZipFile, name: str, content: bytes | memoryview) -> None:
    """Add a record whose content begins at a multiple of 64 bytes, so that it can be mapped."""
    info = zipfile.ZipInfo(f"archive/{name}")
    begin = archive.fp.tell() + 34 + len(info.filename)  # type: ignore[union-attr]
    info.extra = struct.pack("<2sH", b"FB", -begin % 64) + bytes(-begin % 64)
    archive.writestr(info, content)


class _Stream(io.RawIOBase):
    """A file into which nobody can go back; ``zipfile`` then writes it in one go."""

    def __init__(self, out: Out) -> None:
        self._out = out

    def write(self, data: Any, /) -> int:
        return self._out.write(data)

    def tell(self) -> int:
        raise io.UnsupportedOperation
