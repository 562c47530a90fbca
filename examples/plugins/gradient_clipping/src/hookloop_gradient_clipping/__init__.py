"""gradient_clipping: keep gradients within a bound, and report how large they were."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hookloop import Callback, hookimpl
from hookloop.errors import CapabilityError, SettingError

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from torch import Tensor

__all__ = ["GradientClipping"]
__version__ = "0.1.0"


class GradientClipping(Callback):
    """Clips the gradients of the model before every step of the optimizer.

    Args:
        limit: The largest norm, or the largest absolute value, that a gradient may have.
        by: ``"norm"`` scales all gradients so that their common norm is at most ``limit``, which
            keeps their direction; ``"value"`` clips each number by itself.
        norm_type: Which norm: 2 for the Euclidean one, ``inf`` for the largest absolute value.
        log: Whether to report the norm before clipping, as ``gradient_norm``.

    Raises:
        SettingError: For a limit or norm that is no positive number, or another ``by``.
    """

    hook_api = 1
    needs: ClassVar[tuple[str, ...]] = ("before_optimizer_step",)
    changes: ClassVar[tuple[str, ...]] = ("model", "logs")
    per_batch: ClassVar[tuple[str, ...]] = ("allocates",)

    def __init__(
        self,
        limit: float = 1.0,
        by: Literal["norm", "value"] = "norm",
        *,
        norm_type: float = 2.0,
        log: bool = True,
    ) -> None:
        for name, value in (("limit", limit), ("norm_type", norm_type)):
            if math.isnan(value) or value <= 0:
                message = f"gradient_clipping: {name}={value} is no positive number."
                raise SettingError(message, fix=f"{name}=1.0, or another number above 0")
        if by not in ("norm", "value"):
            message = f"gradient_clipping: by={by!r} is not offered."
            raise SettingError(message, fix="by='norm' or by='value'")
        self.limit = limit
        self.by = by
        self.norm_type = norm_type
        self.log = log

    def on_train_begin(self) -> None:
        model: object | None = self.model
        if model is None:
            message = f"gradient_clipping clips a model, and {self.loop.host} was given none."
            raise CapabilityError(message, fix="pass model=")

    @hookimpl(trylast=True)  # whoever inspects or adds to gradients sees them as they were
    def on_before_optimizer_step(self, logs: MutableMapping[str, Any]) -> None:
        from torch.nn import utils

        parameters = list(self.model.parameters())
        norm: Tensor | None = None
        if self.by == "norm":
            norm = utils.clip_grad_norm_(parameters, self.limit, self.norm_type)
        else:
            if self.log:
                gradients = [p.grad for p in parameters if p.grad is not None]
                norm = utils.get_total_norm(gradients, self.norm_type)
            utils.clip_grad_value_(parameters, self.limit)
        if self.log:
            logs["gradient_norm"] = norm  # not read here, which would wait for the device
