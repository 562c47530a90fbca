"""Steps of optimizers in a loop written by hand: noticing them, and the hook in front of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hookloop.errors import CapabilityError

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from hookloop.hosting import Run

_HOOK = "on_before_optimizer_step"


class Steps:
    """Watches the optimizers of a run.

    Args:
        run: The run under way.

    Attributes:
        made: Whether any of them has made a step since this was last set to False: the window of
            gradient accumulation is closed then.
        total: How many steps they have made together.
    """

    def __init__(self, run: Run) -> None:
        self._run, self.made, self.total = run, False, 0
        self._explicit = self._told = False
        wanted = run.loop.registry.dispatch(_HOOK) is not None
        for optimizer in run.loop.optimizers:
            run.on_step(optimizer, self._after)
            if wanted:
                run.before_step(optimizer, self._before)

    def make(
        self,
        optimizer: Optimizer | None,
        closure: Callable[[], Any] | None,
        step: Callable[[], Any] | None,
    ) -> Any:
        """Make a step with the hook in front of it; arguments as for ``loop.optimizer_step``.

        Raises:
            CapabilityError: If there is no optimizer.
        """
        chosen: Any = optimizer if optimizer is not None else self._run.loop.optimizer
        if chosen is None:
            raise CapabilityError("attach was given no optimizer.", fix="attach(model, optimizer)")
        self._explicit = True
        try:
            if closure is not None:
                return chosen.step(self._watched(closure, chosen))
            before = self._run.loop.requests
            self._fire(chosen)
            if self._run.loop.requests > before:
                self.made = True  # nothing of the window is going to be used any more
                return None
            return (step or chosen.step)()
        finally:
            self._explicit = False

    def _watched(self, closure: Callable[[], Any], optimizer: Any) -> Callable[[], Any]:
        """Run the hook once the closure has made gradients; refused ones are dropped, each time."""
        loop, requests, fired = self._run.loop, self._run.loop.requests, False

        def evaluate() -> Any:
            nonlocal fired
            loss = closure()
            if not fired:
                fired = True
                self._run.fire_before_step(optimizer, loop.logs)
            elif loop.requests > requests:
                optimizer.zero_grad(set_to_none=True)
            return loss

        return evaluate

    def _fire(self, optimizer: Any) -> None:
        self._run.act(self._run.driver.fire, _HOOK, optimizer, self._run.loop.logs)

    def _before(self, optimizer: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Run the hook in front of a plain ``optimizer.step()``."""
        if self._explicit:
            return
        if any(callable(one) for one in (*args[1:], *kwargs.values())):
            if not self._told:
                self._told = True
                self._run.loop.message(
                    "A callback wants to see the gradients, which are made inside of "
                    "optimizer.step(closure).\nfix: loop.optimizer_step(closure=closure)"
                )
            return
        self._run.fire_before_step(optimizer, self._run.loop.logs)

    def _after(self, *_: Any) -> None:
        self.made = True
        self.total += 1
