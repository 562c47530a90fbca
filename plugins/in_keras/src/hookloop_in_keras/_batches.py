"""The batches of a run: hooks around the function that Keras calls for each of them.

Keras's own hooks of batches know neither the size of the batch nor anything that is not a mean,
and overriding their end makes Keras read every number from the device. So the model's
``train_function`` and its like are wrapped while a run is under way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hookloop import Logs
from hookloop.hosting import Run
from hookloop_in_keras._catch import Catch
from hookloop_in_keras._keras import keras

Function = Callable[[Any], Any]


class Batches:
    """Fires the hooks of batches of one run, within the model's functions.

    Args:
        model: The model; `close` gives it back as it was.

    Attributes:
        catch: What the batch under way computes.
        run: Whose hooks are fired.
        after: Called with the index of each trained batch, when all is decided; or None.
    """

    run: Run
    after: Callable[[int], None] | None = None

    def __init__(self, model: Any) -> None:
        self._model = model
        self.catch = Catch(model)
        self._announced: int | None = None
        self._wrapped: dict[str, tuple[Function, Function]] = {}

    def announce(self, kind: str, batch: int) -> None:
        """Say that the next call of a function is a batch of the run, and no one else's.

        Args:
            kind: ``"train"``, ``"test"`` or ``"predict"``.
            batch: Its index.
        """
        name = f"{kind}_function"
        function = vars(self._model)[name]
        if name not in self._wrapped or self._wrapped[name][1] is not function:
            act = {"train": self._train, "test": self._test, "predict": self._predict}[kind]
            wrapper = self._around(function, act)  # also if it was made anew since
            self._wrapped[name] = (function, wrapper)
            vars(self._model)[name] = wrapper
        self._announced = batch

    def _around(self, function: Function, act: Callable[[int, Any, Function], Any]) -> Function:
        def wrapper(data: Any) -> Any:
            batch, self._announced = self._announced, None
            return function(data) if batch is None else act(batch, data, function)

        return wrapper

    def _train(self, batch: int, data: Any, function: Function) -> Any:
        run = self.run
        loop: Any = run.loop
        if loop.stop_training:  # asked for before the first batch of an epoch
            self._model.stop_training = True
            return {}
        logs = self._open(data)
        run.act(run.driver.batch_begin, batch, logs)
        returned = function(data)
        loop.steps.batch()
        loop.loss = self.catch.report(logs, returned)
        loop.outputs = self.catch.outputs
        closed = not loop.steps.window_is_open
        run.act(run.driver.batch_end, batch, logs, checkpoint=closed)
        if loop.stop_training:
            self._model.stop_training = True
        if self.after is not None:
            run.act(self.after, batch)
        return returned

    def _test(self, batch: int, data: Any, function: Function) -> Any:
        run, loop = self.run, self.run.loop
        logs = self._open(data)
        run.act(run.driver.test_batch_begin, batch, logs)
        returned = function(data)
        loop.loss = self.catch.report(logs, returned)
        loop.outputs = self.catch.outputs
        run.act(run.driver.test_batch_end, batch, logs)
        return returned

    def _predict(self, batch: int, data: Any, function: Function) -> Any:
        run, loop = self.run, self.run.loop
        logs = self._open(data)
        run.act(run.driver.predict_batch_begin, batch, logs)
        logs["outputs"] = loop.outputs = returned = function(data)
        run.act(run.driver.predict_batch_end, batch, logs)
        return returned

    def _open(self, data: Any) -> Logs:
        """Show the data of a batch, and start its logs."""
        loop = self.run.loop
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data[0])
        loop.inputs, loop.targets = x, y
        self.catch.clear()
        logs = Logs()
        shape = getattr(_first(x), "shape", None)
        if shape:
            logs["size"] = int(shape[0])
        return logs

    def close(self) -> None:
        """Give the model its functions back."""
        self.catch.close()
        for name, (function, wrapper) in self._wrapped.items():
            if vars(self._model).get(name) is wrapper:
                vars(self._model)[name] = function
        self._wrapped.clear()


def _first(x: Any) -> Any:
    """Give the first array of inputs that may be nested."""
    if hasattr(x, "shape"):
        return x
    return next((leaf for leaf in keras.tree.flatten(x) if leaf is not None), None)
