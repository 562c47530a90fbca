"""The moving average of a model's weights, and exchanging it with them. Knows nothing of a loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class Averages:
    """The exponential moving average of a model's weights, beside the model.

    The first average is the weights themselves, as with Keras's ``use_ema`` and torch's
    ``AveragedModel``; then ``average = decay * average + (1 - decay) * weights``.

    Averaged are the parameters and, if wished, the buffers that are saved with the model, where
    they are floating-point or complex. Counters and masks stay the model's own.

    Args:
        model: Whose weights.
        decay: Share of the old average that is kept, in [0, 1].
        use_buffers: Whether buffers are averaged, such as the statistics of batch norms.
    """

    def __init__(self, model: nn.Module, *, decay: float, use_buffers: bool) -> None:
        self.model = model
        self._saved = set(model.state_dict(keep_vars=True)) if use_buffers else set()
        self._averaged = AveragedModel(
            _Tensors(dict(self._current())),
            multi_avg_fn=get_ema_multi_avg_fn(decay),  # type: ignore[no-untyped-call]
            use_buffers=True,
        )

    @property
    def count(self) -> int:
        """How many times the weights were taken into the average."""
        return int(self._averaged.n_averaged)

    def tensors(self) -> dict[str, Tensor]:
        """Give the averages by name, by reference; the weights themselves while exchanged."""
        found: dict[str, Tensor] = self._averaged.module.tensors  # type: ignore[assignment]
        return found

    def update(self) -> None:
        """Take the model's present weights into the average."""
        self._averaged.update_parameters(_Tensors(dict(self._current())))

    @torch.no_grad()
    def exchange(self) -> None:
        """Put the averages into the model and its weights in their place; again for the way back.

        Values are copied, one tensor at a time: memory moves nowhere, so that views, flattened
        weights of recurrent layers and compiled code stay valid.
        """
        other = self.tensors()
        for name, own in self._current():
            kept = own.clone()
            own.copy_(other[name])
            other[name].copy_(kept)

    @torch.no_grad()
    def load(self, count: int, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `count` and `tensors` gave.

        Raises:
            ValueError: If these are the averages of another model.
        """
        own = self.tensors()
        if {n: t.shape for n, t in own.items()} != {n: t.shape for n, t in tensors.items()}:
            raise ValueError("the averages are of another model")
        self._averaged.n_averaged.fill_(count)
        for name, value in own.items():
            value.copy_(tensors[name])

    def _current(self) -> Iterator[tuple[str, Tensor]]:
        """Find what is averaged, anew each time: modules may replace their buffers."""
        for name, parameter in self.model.named_parameters():
            if parameter.is_floating_point() or parameter.is_complex():
                yield name, parameter.detach()
        for name, buffer in self.model.named_buffers():
            if name in self._saved and (buffer.is_floating_point() or buffer.is_complex()):
                yield name, buffer.detach()


class _Tensors(nn.Module):
    """What `AveragedModel` is given in place of the model: the tensors to average, and no more.

    It copies whatever it is given, and a model may have hooks that lead to half of the program.
    """

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.tensors = tensors

    def parameters(self, recurse: bool = True) -> Iterator[Any]:
        return iter(self.tensors.values())

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        return iter(())
