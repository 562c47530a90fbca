"""Computing: what makes outputs and loss of a batch; plain, under autocast, or compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from hookloop import rng
from hookloop.errors import warn
from hookloop.logs import Logs
from hookloop.loop import Loop
from hookloop.models import caller, explain
from hookloop.objectives import Objective

Forward = Callable[[Any], Any]
#: From inputs, targets and the logs of a batch: outputs and loss.
Compute = Callable[[Any, Any, Logs], tuple[Any, Tensor]]
#: Without it, dropout would draw other numbers compiled than plain.
_SAME_DRAWS: dict[str, Any] = {"fallback_random": True}


class Computing:
    """Calls the model of a trainer, and its loss.

    Args:
        model: As the trainer got it, with its wrappers.
        objective: Whose loss it is.
        device: Where the model is.
        bf16: Whether model and loss run under autocast.
        compiled: Whether they go through ``torch.compile``: for training and evaluation both in
            one graph, so that the backward pass is compiled, too.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, device: torch.device, *, bf16: bool,
        compiled: bool,
    ) -> None:  # fmt: skip
        self._call, self._device, self._bf16, self._told = caller(model), device, bf16, False
        call = self._call  # what is compiled must not hold all of this

        def step(inputs: Any, targets: Any) -> tuple[Any, Tensor, dict[str, Any]]:
            parts: dict[str, Any] = {}
            outputs = call(inputs)
            return outputs, objective.loss(outputs, targets, parts), parts

        self._forward = Compiled(call, model, self._say) if compiled else None
        self._step = Compiled(step, model, self._say) if compiled else None

    def forward(self, loop: Loop) -> Forward:
        """Give what calls the model for a prediction."""
        call, compiled = self._call, self._forward

        def plain(inputs: Any) -> Any:
            try:
                return call(inputs)
            except Exception as error:
                explain(error, "the forward pass of prediction", loop, inputs=inputs)
                raise

        def forward(inputs: Any) -> Any:
            with self._autocast():
                return plain(inputs) if compiled is None else compiled(plain, inputs)

        return forward

    def compute(self, objective: Objective, loop: Loop | None, phase: str) -> Compute:
        """Give what makes outputs and loss of a batch.

        Args:
            objective: That of the run.
            loop: Where it is, for errors.
            phase: What it is of, for errors.
        """
        plain = self._explained(objective, loop, phase)
        compute = plain if self._step is None else _compiled(plain, self._step)
        if not self._bf16:
            return compute

        def compute_bf16(inputs: Any, targets: Any, logs: Logs) -> tuple[Any, Tensor]:
            with self._autocast():
                return compute(inputs, targets, logs)

        return compute_bf16

    def _explained(self, objective: Objective, loop: Loop | None, phase: str) -> Compute:
        call, single = self._call, objective.single

        def compute(inputs: Any, targets: Any, logs: Logs) -> tuple[Any, Tensor]:
            try:
                outputs = call(inputs)
            except Exception as error:
                explain(error, f"the forward pass of {phase}", loop, inputs=inputs)
                raise
            try:
                if single is not None:
                    return outputs, single(outputs, targets)
                return outputs, objective.loss(outputs, targets, logs)
            except Exception as error:
                explain(error, f"the loss of {phase}", loop, outputs=outputs, targets=targets)
                raise

        return compute

    def _say(self, error: Exception) -> None:
        """Tell once that something cannot be compiled."""
        told, self._told = self._told, True
        if not told:
            first, _, rest = str(error).strip().partition("\n")
            if first.endswith(":"):  # "backend='inductor' raised:"
                first += f" {rest.partition(chr(10))[0]}"
            warn(
                "compile=True: the model cannot be compiled here and runs as it is "
                f"({first}).\nfix: install a C++ compiler, or pass compile=False",
                RuntimeWarning,
            )

    def _autocast(self) -> Any:
        return torch.autocast(self._device.type, torch.bfloat16) if self._bf16 else nullcontext()


def _compiled(plain: Compute, step: Compiled) -> Compute:
    """Give what does the same as a plain one, through what was compiled."""

    def compute(inputs: Any, targets: Any, logs: Logs) -> tuple[Any, Tensor]:
        def without(inputs: Any, targets: Any) -> tuple[Any, Tensor, Logs]:
            return *plain(inputs, targets, logs), Logs()

        outputs, loss, parts = step(without, inputs, targets)
        dict.update(logs, parts)  # unread
        return outputs, loss

    return compute


class Compiled:
    """A function that goes through ``torch.compile``; where that fails, it is called as it is.

    Results are those of the same operations, fused, so they may differ in the last bits.

    Args:
        function: Gives outputs, or outputs, loss and more.
        model: What it calls.
        say: Is told why the function cannot be compiled.
    """

    def __init__(
        self, function: Callable[..., Any], model: nn.Module, say: Callable[[Exception], None]
    ) -> None:
        self._model, self._say, self._tried = model, say, False
        self._function: Callable[..., Any] | None = None
        try:
            self._function = torch.compile(function, options=_SAME_DRAWS)
        except RuntimeError as error:  # not for this Python, or not for this platform
            self._do_without(error)

    def __call__(self, plain: Callable[..., Any], *args: Any) -> Any:
        """Call the function.

        Args:
            plain: Does the same without being compiled.
            *args: For either.
        """
        if self._function is None:
            return plain(*args)
        try:
            if not self._tried and torch.is_grad_enabled():
                self._try(*args)
            return self._function(*args)
        except Exception as error:
            found = plain(*args)  # raises itself if model or loss is what is wrong
            self._do_without(error)
            return found

    def _try(self, *args: Any) -> None:
        """Have the backward pass compiled, too, while it can still be done without."""
        assert self._function is not None  # noqa: S101
        with _put_back(self._model):
            loss = self._function(*args)[1]
            leaves = [one for one in self._model.parameters() if one.requires_grad]
            if loss.requires_grad and leaves:
                torch.autograd.grad(loss, leaves, allow_unused=True)
        self._tried = True

    def _do_without(self, error: Exception) -> None:
        self._function = None
        self._say(error)


@contextmanager
def _put_back(model: nn.Module) -> Iterator[None]:
    """Run a block after which buffers and random numbers are what they were."""
    before = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    with rng.fork():
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, value in before:
                    buffer.copy_(value)
