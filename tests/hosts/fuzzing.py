"""Random bytes and mutated files in the place of saved ones: only errors of ours, in bounds."""

from __future__ import annotations

import random
import resource
import time
from collections import Counter
from pathlib import Path

import hostile

from hookloop import HookloopError
from hookloop.checkpoints import load_checkpoint, load_state
from hookloop.resume_info import examine

HEADS = [b"", b"PK\x03\x04", b"PK", b"\x80\x02", b"{", b"\x10\0\0\0\0\0\0\0{", b"\x89HDF"]


def fuzz(folder: Path, seed: int, count: int) -> Counter[str]:
    """Read files that were made at random, or of good ones with a few bytes changed.

    Args:
        folder: With the good ones, as `hostile.lay_out` leaves them.
        seed: Decides all of it.
        count: How many.

    Returns:
        How many were refused and how many read.
    """
    draw, found = random.Random(seed), Counter[str]()
    kept = {name: (folder / name).read_bytes() for name in hostile.FILES}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(count):
        file = draw.choice(hostile.FILES)
        content = _changed(draw, kept[file])
        (folder / file).write_bytes(content)
        if file.startswith("run/") and "manifest" not in file and draw.random() < 0.7:
            hostile.seal(folder / "run")
        began = time.monotonic()
        found[_read(folder / file.partition("/")[0])] += 1
        took = time.monotonic() - began
        assert took < 5, f"{seed=} {number=} {file=}: {took:.1f} s"
        for name in ("run/manifest.json", file):
            (folder / name).write_bytes(kept[name])
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000, f"{grown} kB more"
    return found


def _changed(draw: random.Random, good: bytes) -> bytes:
    kind = draw.randrange(5)
    if kind == 0:
        return draw.choice(HEADS) + draw.randbytes(draw.randrange(400))
    data = bytearray(good)
    for _ in range(draw.randrange(1, 6)):
        at = draw.randrange(min(len(data), 2000) if kind < 4 else len(data))
        if kind == 1:
            data[at : at + draw.randrange(1, 9)] = draw.randbytes(draw.randrange(9))
        elif kind == 2:
            data[at] = draw.choice(b'0123456789-{}[],:"\xff\0')
        elif kind == 3:
            data[at:at] = data[draw.randrange(len(data)) :][: draw.randrange(200)]
        else:
            data[at] ^= 1 << draw.randrange(8)
    return bytes(data)


def _read(path: Path) -> str:
    """Read a file in every way; any other error than ours goes up."""
    results = set()
    for read in (load_state, load_checkpoint, examine):
        try:
            read(path)
            results.add("read")
        except HookloopError:
            results.add("refused")
    return "refused" if "refused" in results else "read"
