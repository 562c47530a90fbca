"""Passes over data in a loop written by hand: iterators that run hooks, and can be resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from hookloop import compared, rng
from hookloop.data import IterableSource, about
from hookloop.errors import DataError
from hookloop.loaders import IF, own_iterator
from hookloop.logs import Logs
from hookloop.means import Means
from hookloop.structures import size_of

if TYPE_CHECKING:
    from hookloop.hosting import Run


#: What is drawn when there is no further batch.
END = object()


class OwnSource(IterableSource):
    """Batches of somebody's own loader, in the order that it has without us.

    The order is drawn from the random numbers of the loop around it. To go on inside an epoch,
    they are put back to what they were when that epoch's order was drawn.
    """

    def _order(
        self, seed: int, epoch: int, resume: Mapping[str, Any]
    ) -> AbstractContextManager[None]:
        return _under(resume["random"]) if resume.get("random") is not None else nullcontext()

    def follows(self, data: Any, before: tuple[Any, OwnSource]) -> bool:
        """Tell whether these data, or at least their generators, are those of the epoch before."""
        generators = self._generators()
        return data is before[0] or bool(generators and generators == before[1]._generators())

    def go_on(self, held: Mapping[str, Any], drawn: int, random: Mapping[str, Any] | None) -> None:
        """Stand where the source of an earlier run stood.

        Args:
            held: What `state` gave.
            drawn: How many batches an iterator gives that were used already.
            random: Random numbers under which the first of them was drawn.
        """
        self._set_generators(held.get("now"))
        if self.once and drawn:
            with _under(random) if random is not None else rng.fork():
                for _ in islice(self._counted(), drawn):
                    pass


@contextmanager
def _under(random: Mapping[str, Any]) -> Iterator[None]:
    with rng.fork():
        rng.restore(random)
        yield


class Passes:
    """The passes over data in each epoch, one after the other, and how far the current one is."""

    def __init__(self) -> None:
        self._sources: list[tuple[Any, OwnSource]] = []
        #: Of each pass, whether its data go on from one epoch to the next; None in the first one.
        self._kept: list[bool | None] = []
        self._waiting: dict[int, Mapping[str, Any]] = {}  # by pass, where it has to go on
        self._cost: str | None = None
        self._changed: list[str] = []
        self._told: set[str] = set()
        self._number = -1
        self._done = 0
        self._random: Any = None
        self._resume: Mapping[str, Any] | None = None
        self._inside = False
        self._now: Mapping[str, Any] = {}

    def begin(self) -> None:
        """Begin an epoch."""
        self._number, self._done = -1, 0

    def restore(self, saved: Mapping[str, Any], *, inside: bool, now: Mapping[str, Any]) -> None:
        """Go on where a state was taken.

        Args:
            saved: What `state` gave.
            inside: Whether that was in the middle of an epoch.
            now: Random numbers at that time.
        """
        self._resume, self._inside, self._now = saved, inside, now
        self._waiting = dict(enumerate(saved["passes"]))

    def open(self, data: Any) -> OwnSource:
        """Begin the next pass of the epoch.

        Raises:
            DataError: If these are no data.
            StateError: If the run is resumed inside a pass over other data.
        """
        if not isinstance(data, Iterable):
            message = f"loop.batches() was given a {type(data).__name__}."
            raise DataError(message, fix="pass a DataLoader, or any iterable of batches")
        self._number, self._done = self._number + 1, 0
        self._cost, self._changed = None, []
        number, known = self._number, self._sources[self._number : self._number + 1]
        if not known or known[0][0] is not data:
            source = OwnSource(data, torch.device("cpu"), paired=False)
            kept = source.follows(data, known[0]) if known else None
            if number in self._waiting:
                kept = self._continue(source, self._waiting.pop(number))
            self._sources[number : number + 1] = [(data, source)]
        else:
            source, kept = known[0][1], True
        self._kept[number : number + 1] = [kept]
        return source

    def _continue(self, source: OwnSource, held: Mapping[str, Any]) -> bool | None:
        """Put a source where it was when the state of the earlier run was taken.

        Data that were made anew for each epoch are that again, unless this epoch has used some.

        Returns:
            Whether those data went on from one epoch to the next.
        """
        resume: Any = self._resume
        kept: bool | None = held.get("kept")
        current = self._inside and self._number == resume["pass"]
        then, now = held.get("about", {}), about(source)
        self._changed = compared.differing(then, now)
        if self._inside and self._number <= resume["pass"]:
            compared.refuse([*compared.data(then, now)])
        if current and not kept:
            source.go_on(held, int(resume["done"]), resume["random"])
            if source.once:
                rng.restore(self._now)  # what it was made from has drawn numbers once more
        elif kept is not False:
            source.go_on(held, int(held["drawn"]) if kept else 0, None)
        if current or (kept and source.once and held["drawn"]):
            self._cost = source.cost_of_skipping()
        elif source.once and self._number == resume["pass"]:
            self._cost = "this iterator has to stand where it stood: nothing is drawn from it"
        return kept

    def _skipped(self) -> int | None:
        """Tell how many batches of this pass the earlier run has used; None for all of them."""
        if self._resume is None or not self._inside:
            return 0
        last = self._resume["pass"]
        if self._number < last:
            return None
        self._inside = False
        return int(self._resume["done"]) if self._number == last else 0

    def to_say(self, saves: bool) -> list[str]:
        """Give the lines that the user has to know of the pass that was just opened, each once.

        Args:
            saves: Whether somebody saves the state of the run.
        """
        condition = self._sources[self._number][1].condition() if saves else None
        if self._cost is not None:
            lines = [f"To go on where the run was, {self._cost}."]
        else:
            lines = [IF.format(condition)] if condition is not None else []
        if self._changed:
            lines.append(f"Changed since the state was saved: {'; '.join(self._changed)}.")
        new = [line for line in lines if line not in self._told]
        self._told.update(new)
        return new

    def items(self) -> Iterator[Any]:
        """Give the batches of the pass that was just opened."""
        skip = self._skipped()
        if skip is None:
            return iter(())
        data, source = self._sources[self._number]
        resume: Mapping[str, Any] = {}
        if skip and self._resume is not None:
            resume = {**self._resume["passes"][self._number], "random": self._resume["random"]}
        return self._read(data, source, skip, resume)

    def _read(
        self, data: Any, source: OwnSource, skip: int, resume: Mapping[str, Any]
    ) -> Iterator[Any]:
        self._done, self._random = skip, resume.get("random") or rng.capture()
        with own_iterator(data):
            yield from source.items(0, 0, skip, resume)

    def count(self) -> None:
        """Count a batch of the current pass."""
        self._done += 1

    def state(self) -> dict[str, Any]:
        """Give what is needed to go on, as plain data."""
        return {
            "pass": self._number,
            "done": self._done,
            "random": self._random,
            "passes": [
                {"about": about(one), "kept": kept, **one.state()}
                for (_, one), kept in zip(self._sources, self._kept, strict=True)
            ],
        }


class Epochs:
    """Indices of epochs, as far as the loop goes."""

    def __init__(self, following: Callable[[bool], int | None], *, first: bool) -> None:
        self._following, self._first = following, first

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        first, self._first = self._first, False
        epoch = _called(self._following, first)
        if epoch is None:
            raise StopIteration
        return int(epoch)


class Batches:
    """Training batches. Left by ``break``, it only says so: hooks run at the next call."""

    def __init__(
        self,
        items: Iterator[Any],
        following: Callable[[Batches], Any],
        left: Callable[[Batches], None],
    ) -> None:
        self.items, self._following, self._left = items, following, left

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        item = _called(self._following, self)
        if item is END:
            raise StopIteration
        return item

    def __del__(self) -> None:
        self._left(self)


def _called(following: Callable[[Any], Any], argument: Any) -> Any:
    """Keep a callback's StopIteration from ending the user's ``for`` as if all were well."""
    try:
        return following(argument)
    except StopIteration as error:
        message = "A callback raised StopIteration."
        raise RuntimeError(message) from error


class Validation:
    """One validation: its batches, and the means of what was logged in them.

    Attributes:
        left: Whether a loop over its batches was left by ``break``: the open one ends next.
    """

    def __init__(self, run: Run) -> None:
        self._run, self._loop = run, run.loop
        self._index, self._open, self._means = -1, False, Means()
        self.left = False

    def batches(self, data: Iterable[Any]) -> Iterator[Any]:
        """Give the batches of a loader, with the test hooks around each."""
        for item in data:
            self._begin(item)
            try:
                yield item
            except GeneratorExit:
                self.left = True
                raise
            self.end_batch()

    def _begin(self, item: Any) -> None:
        self.end_batch()  # of a loop that was left by break
        self._index, self._open = self._index + 1, True
        logs = Logs({"size": size_of(item)})
        self._run.act(self._run.driver.test_batch_begin, self._index, logs)

    def end_batch(self) -> None:
        """End the open batch, if there is one."""
        self.left = False
        if self._open:
            self._open, logs = False, self._loop.logs
            self._run.act(self._run.driver.test_batch_end, self._index, logs)
            self._means.add(logs)

    def end(self) -> Logs:
        """End the open batch, and give the logs of the validation."""
        self.end_batch()
        found = Logs()
        found.update(self._means.result(), self._loop.logs)
        return found
