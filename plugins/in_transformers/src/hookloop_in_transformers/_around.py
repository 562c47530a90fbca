"""What happens around a trainer's own methods: batches, evaluations, predictions, exceptions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from hookloop.models import unwrapped
from hookloop_in_transformers import _trainer
from hookloop_in_transformers._evaluation import Evaluation
from hookloop_in_transformers._loop import Outputs, TransformersLoop

if TYPE_CHECKING:
    from hookloop_in_transformers._callback import HookloopCallback
    from hookloop_in_transformers._training import Training

Method = Callable[..., Any]


class _One:
    """The one batch whose items are asked for: every bridge lets it through after a stop, too."""

    def __init__(self, batches: list[Any]) -> None:
        self._batches = iter(batches)

    def __iter__(self) -> Iterator[Any]:
        return self._batches

    def __next__(self) -> Any:
        return next(self._batches)


class Around:
    """Follows one trainer for one callback. Each method gets the trainer's own as its first.

    Args:
        callback: Whose runs these are.
        trainer: The trainer.

    Attributes:
        callback: As given.
        trainer: As given.
        evaluation: The one under way whose hooks are fired, or None.
        active: Whether the callback still belongs to this trainer.
    """

    def __init__(self, callback: HookloopCallback, trainer: Any) -> None:
        self.callback, self.trainer = callback, trainer
        self.evaluation: Evaluation | None = None
        self.active, self._inside = True, False

    def _training(self) -> Training | None:
        """Give the training under way, or None."""
        training = self.callback.training
        if training is None or training.trainer is not self.trainer:
            return None
        return training if self.callback.bridge.running else None

    # -- training ----------------------------------------------------------------------------

    def train(self, method: Method, *args: Any, **kwargs: Any) -> Any:
        try:
            result = method(*args, **kwargs)
        except BaseException as error:
            self.callback.fail(error)
            raise
        self.callback.end()  # for trainers that forget on_train_end
        return result

    def get_batch_samples(self, method: Method, *args: Any, **kwargs: Any) -> Any:
        training = self._training()
        counts = any(isinstance(one, _One) for one in (*args, *kwargs.values()))
        if training is not None and training.loop.stop_training and not counts:
            return [], None  # the Trainer looks at its control only after a batch
        return method(*args, **kwargs)

    def compute_loss(
        self, method: Method, model: Any, inputs: Any, *args: Any, **kwargs: Any
    ) -> Any:
        training = self._training()
        if training is None or self._inside or not training.in_epoch or not model.training:
            if self.evaluation is not None:
                self.evaluation.takes(inputs)
            return method(model, inputs, *args, **kwargs)
        items = kwargs.get("num_items_in_batch", args[1] if len(args) > 1 else None)
        share = self._share(inputs, items)  # before the call, which may take the labels out
        training.outputs.watch(model)
        training.batch_begin(inputs)
        result = method(model, inputs, *args, **kwargs)
        loss = result[0] if isinstance(result, tuple) else result
        training.measured(loss if share is None else loss.detach() * share)
        return result

    def _share(self, inputs: Any, items: Any) -> Any:
        """Tell by what a loss is to be multiplied to be the mean of this micro-batch alone.

        It may be divided by the number of items in all micro-batches of its optimizer step. The
        rule is the Trainer's own, by which it decides whether to divide it itself.
        """
        trainer = self.trainer
        divided = getattr(trainer, "loss_is_scaled_for_ga", None)
        if divided is None:
            divided = trainer.model_accepts_loss_kwargs and items is not None
            divided = divided or trainer.compute_loss_func is not None
        window = trainer.current_gradient_accumulation_steps
        if not divided or window == 1:
            return None
        _, own = trainer.get_batch_samples(_One([inputs]), 1, trainer.args.device)
        return window if items is None or own is None else items / own

    # -- evaluating and predicting --------------------------------------------------------------

    def evaluate(self, method: Method, *args: Any, **kwargs: Any) -> Any:
        if self._inside:  # one set of several
            return method(*args, **kwargs)
        named = dict(zip(("eval_dataset", "ignore_keys", "metric_key_prefix"), args, strict=False))
        named.update(kwargs)
        prefix = named.get("metric_key_prefix", "eval")
        self._settle()
        training = self._training()
        if training is None:
            return self._alone(partial(method, *args, **kwargs), predicts=False, prefix=prefix)
        # With data or a prefix of somebody's own, or before the first epoch, it is no validation.
        if named.get("eval_dataset") is not None or prefix != "eval" or not training.in_epoch:
            return self._follow(partial(method, *args, **kwargs), None)
        evaluation = Evaluation(
            training.run, training.outputs, self.trainer, predicts=False, prefix=prefix
        )
        result = self._follow(partial(method, *args, **kwargs), evaluation)
        training.evaluated()
        return result

    def predict(self, method: Method, *args: Any, **kwargs: Any) -> Any:
        self._settle()
        if self._inside or self._training() is not None:
            return self._follow(partial(method, *args, **kwargs), None)
        return self._alone(partial(method, *args, **kwargs), predicts=True, prefix="test")

    def _settle(self) -> None:
        """End a training that an exception has left, if nobody could see that."""
        if self.callback.misses_exceptions and not _trainer.is_training(self.trainer):
            self.callback.fail(left_open())

    def prediction_step(
        self, method: Method, model: Any, inputs: Any, *args: Any, **kwargs: Any
    ) -> Any:
        if self.evaluation is None:
            return method(model, inputs, *args, **kwargs)
        self.evaluation.batch_begin(model, inputs)
        result = method(model, inputs, *args, **kwargs)
        self.evaluation.batch_end(*result[:2])
        return result

    def _alone(self, call: Callable[[], Any], *, predicts: bool, prefix: str) -> Any:
        """Evaluate or predict outside of training, in a run of its own."""
        run = self.callback.bridge.aside(
            TransformersLoop,
            model=unwrapped(self.trainer.model),
            params={"batch_size": self.trainer.args.eval_batch_size, "verbose": 0},
        )
        try:
            evaluation = Evaluation(
                run, Outputs(run), self.trainer, predicts=predicts, prefix=prefix
            )
            result = self._follow(call, evaluation)
        except BaseException as error:
            run.fail(error)
            raise
        run.close()
        return result

    def _follow(self, call: Callable[[], Any], evaluation: Evaluation | None) -> Any:
        """Call what evaluates, with the hooks of an evaluation or with none."""
        before = self._inside, self.evaluation
        self._inside, self.evaluation = True, evaluation
        try:
            if evaluation is not None:
                evaluation.begin()
            result = call()
            if evaluation is not None:
                evaluation.end()
            return result
        finally:
            self._inside, self.evaluation = before


def left_open() -> RuntimeError:
    """Make the error for a training that was left without its end."""
    return RuntimeError("the Trainer left this training before its end")
