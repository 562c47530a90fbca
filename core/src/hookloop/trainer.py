"""Trainer: fit, evaluate and predict, with callbacks chosen by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.data import Dataset

from hookloop import arguments, rng, signals
from hookloop.checkpoints import load_state
from hookloop.checks import (
    at_least,
    one_of,
    refuse_misplaced,
    refuse_no_module,
    refuse_several_processes,
    refuse_used_up,
    validation_epochs,
)
from hookloop.computing import Computing
from hookloop.data import Source, make_source
from hookloop.defaults import Verbose, with_bar, with_defaults
from hookloop.driver import Driver
from hookloop.errors import ArgumentError
from hookloop.evaluation import evaluate, predict
from hookloop.fitting import Fitting, TrainerLoop
from hookloop.history import History
from hookloop.models import best_device, in_mode, takes_all, unwrapped
from hookloop.objectives import Objective
from hookloop.optimizers import check_parameters, make_optimizer
from hookloop.profiling import Profile
from hookloop.registry import Policy
from hookloop.selection import load_callbacks, named
from hookloop.structures import is_arrays, split


class Trainer:
    """Trains a model, with callbacks.

    Args:
        model: Any module. Tuples of inputs are passed as positional arguments, mappings as keyword
            arguments. It moves to the device, and stays there.
        loss: A name such as ``"cross_entropy"``, a module, or a function
            ``(outputs, targets) -> 0-d tensor``; for a model that returns a mapping, a mapping
            from its keys to these.
        optimizer: An instance, a name with settings such as ``"sgd:lr=0.1,momentum=0.9"``, or a
            callable of the parameters. Its state is kept between calls of ``fit``.
        metrics: A list or mapping of names such as ``"accuracy"``, functions
            ``(outputs, targets) -> mean over the samples``, or objects with ``update``,
            ``compute`` and ``reset``; for several outputs, a mapping from outputs to lists.
        device: ``"auto"`` for an accelerator if there is one, else any torch device.
        precision: None for the model's own, or ``"bf16"`` for autocast.
        accumulate: Micro-batches whose gradients are added up for one optimizer step.
        compile: Whether the model goes through ``torch.compile``; where that fails, one line says
            so, and it runs as it is.
        seed: Seeds torch, NumPy and Python when ``fit`` starts, and decides the order of the
            data; None takes torch's initial seed for the order alone.
        on_interrupt: What a SIGINT leads to after the run has ended in order: ``"raise"`` for
            ``KeyboardInterrupt``, ``"return"`` for the history.

    Raises:
        ArgumentError: For an argument that makes no sense, with what does.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: Any,
        optimizer: Any,
        metrics: Any = None,
        device: str | torch.device = "auto",
        precision: str | None = None,
        accumulate: int = 1,
        compile: bool = False,
        seed: int | None = None,
        on_interrupt: Literal["raise", "return"] = "raise",
    ) -> None:
        refuse_no_module(model)
        one_of("precision", precision, (None, "bf16", "float32"), "fp16 is not in this release")
        one_of("on_interrupt", on_interrupt, ("raise", "return"))
        at_least("accumulate", accumulate, 1)
        at_least("seed", seed, 0, optional=True)
        refuse_several_processes()
        self.device = best_device(device, model)
        self.model = model.to(self.device)
        self.module = unwrapped(model)
        self.objective = Objective(loss, metrics)
        for module in self.objective.modules:
            module.to(self.device)
        self.optimizer = make_optimizer(optimizer, self.module)
        self.accumulate, self.seed, self.on_interrupt = accumulate, seed, on_interrupt
        self.history: History | None = None
        self.precision = precision
        self._computing = Computing(
            self.model, self.objective, self.device, bf16=precision == "bf16", compiled=compile
        )
        self._fits = 0

    def fit(
        self,
        data: Any,
        *misplaced: Any,
        epochs: int = 1,
        batch_size: int | None = None,
        validation_data: Any = None,
        validation_split: float = 0.0,
        validation_freq: int | Collection[int] = 1,
        callbacks: Any = (),
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        shuffle: bool = True,
        verbose: Verbose = "auto",
        resume: Any = None,
        on_callback_error: Policy = "auto",
        profile_callbacks: bool = False,
    ) -> History:
        """Train for a number of epochs.

        Args:
            data: ``(x, y)`` as arrays or tensors, a ``Dataset``, a ``DataLoader``, or an iterable
                of ``(inputs, targets)``.
            epochs: Index of the epoch after the last, so with ``initial_epoch=0`` their number.
            batch_size: Samples a batch, for arrays and datasets; 32 unless given.
            validation_data: In any of the forms of ``data``.
            validation_split: Share of the samples, from the end, that is held out; in [0, 1).
            validation_freq: Validate after every so many epochs, or after those listed (from 1).
            callbacks: See `hookloop.load_callbacks`.
            initial_epoch: Index of the first epoch.
            steps_per_epoch: Batches an epoch, at most; an iterator goes on in the next epoch.
            shuffle: Whether arrays and datasets are shuffled, by seed and epoch.
            verbose: 0 shows nothing, 1 a progress bar, 2 a line an epoch; ``"auto"`` is 1.
            resume: A ``.pt`` file or state folder of an earlier run to continue.
            on_callback_error: ``"raise"`` or ``"disable"`` for all callbacks; ``"auto"`` ends the
                run unless the callback only observes.
            profile_callbacks: Whether to measure every hook of every callback, to show a table of
                that at the end, and to name who takes more than 5 % of a step.

        Returns:
            The history, also found as ``trainer.history``, however the run ends.

        Raises:
            HookloopError: For anything that can be known to be wrong before the first step.
        """
        refuse_misplaced("fit", misplaced)
        at_least("epochs", epochs, 0)
        at_least("initial_epoch", initial_epoch, 0)
        at_least("steps_per_epoch", steps_per_epoch, 1, optional=True)
        validates = validation_epochs(validation_freq)
        data, validation_data = self._held_out(data, validation_data, validation_split)
        source = self._source(data, batch_size, shuffle=shuffle)
        validation = self._validation(validation_data, batch_size)
        if epochs - initial_epoch > 1:
            refuse_used_up("data", source, steps_per_epoch)
            refuse_used_up("validation_data", validation, None)
        loop = self._loop(
            callbacks,
            source,
            verbose,
            add=with_defaults,
            epochs=epochs,
            limit=steps_per_epoch,
            validation_data=validation_data,
            policy=on_callback_error,
            profile=Profile() if profile_callbacks else None,
        )
        loop.fitting = Fitting(
            loop,
            compute=self._computing.compute,
            objective=self.objective.twin(),
            source=source,
            validation=validation,
            validates=validates,
            accumulate=self.accumulate,
            limit=steps_per_epoch,
            seed=self._data_seed(),
        )
        loop.validation_freq = validation_freq
        history = next(one for one in loop.callbacks.values() if isinstance(one, History))
        self.history = loop.history = history
        check_parameters(self.optimizer, self.module, *self.objective.modules)
        if epochs:
            self._run(loop.fitting, initial_epoch, epochs, resume)
        return history

    def evaluate(
        self,
        data: Any,
        *misplaced: Any,
        batch_size: int | None = None,
        callbacks: Any = (),
        verbose: Verbose = "auto",
    ) -> dict[str, float]:
        """Measure loss and metrics, without training.

        Args:
            data: As for ``fit``.
            batch_size: Samples a batch, for arrays and datasets.
            callbacks: As for ``fit``; they see the test hooks.
            verbose: 0 shows nothing, else a progress bar.

        Returns:
            ``loss`` and the metrics, over all samples.
        """
        refuse_misplaced("evaluate", misplaced)
        source = self._source(data, batch_size, shuffle=False)
        loop = self._loop(callbacks, source, verbose)
        driver, objective = Driver(loop, trains=False), self.objective.twin()
        with _ends(loop, driver):
            compute = self._computing.compute(objective, loop, "evaluation")
            logs = evaluate(self.model, compute, objective, source, driver)
        return dict(logs)

    def measure(self, data: Any, batch_size: int | None = None) -> dict[str, float]:
        """Do what ``evaluate`` does, with no callbacks and nothing shown."""
        source = self._source(data, batch_size, shuffle=False)
        objective = self.objective.twin()
        compute = self._computing.compute(objective, None, "evaluation")
        logs = evaluate(self.model, compute, objective, source, None)
        return dict(logs)

    def predict(
        self,
        data: Any,
        *,
        batch_size: int | None = None,
        callbacks: Any = (),
        verbose: Verbose = "auto",
    ) -> Any:
        """Give what the model returns for every sample, in order.

        Args:
            data: Inputs as arrays or tensors, or anything that ``fit`` takes; targets are ignored.
                A tuple of arrays is inputs where the model takes so many positional arguments.
            batch_size: Samples a batch, for arrays and datasets.
            callbacks: As for ``fit``; they see the predict hooks.
            verbose: 0 shows nothing, else a progress bar.

        Returns:
            A tensor of shape (samples, ...) on the model's device, or the model's structure of
            such tensors.
        """
        source = self._source(data, batch_size, shuffle=False, paired=False)
        loop = self._loop(callbacks, source, verbose)
        driver = Driver(loop, trains=False)
        with _ends(loop, driver):
            return predict(self.model, self._computing.forward(loop), source, driver)

    # -- inside ------------------------------------------------------------------------------------

    def _run(self, fitting: Fitting, first: int, epochs: int, resume: Any) -> None:
        loop, driver = fitting.loop, fitting.driver
        if resume is not None:
            loop.load_state_dict(load_state(resume))
        if self.seed is not None:
            rng.seed_all(self.seed)
        try:
            with signals.handled(loop), _ends(loop, driver), in_mode(self.model, training=True):
                driver.train_begin()
                fitting.run(first, epochs)
                driver.train_end()
        finally:
            self.history = loop.history  # a callback may have called fit in between
        signals.leave(loop, self.on_interrupt)

    def _loop(
        self,
        callbacks: Any,
        source: Source,
        verbose: Verbose,
        *,
        add: Callable[[list[Any], Verbose], list[Any]] = with_bar,
        epochs: int = 1,
        limit: int | None = None,
        validation_data: Any = None,
        policy: Policy = "auto",
        profile: Profile | None = None,
    ) -> TrainerLoop:
        chosen, said = arguments.with_environment(callbacks)
        loop = TrainerLoop(
            model=self.module,
            optimizers=[self.optimizer],
            callbacks=named(add(load_callbacks(chosen), verbose)),
            params={
                "epochs": epochs,
                "steps": source.at_most(limit),
                "batch_size": source.batch_size,
                "samples": source.samples,
                "verbose": verbose,
                "metrics": self.objective.names,
                "do_validation": validation_data is not None,
            },
            validation_data=validation_data,
            metrics=self.objective.metrics,
            policy=policy,
            profile=profile,
        )
        loop.trainer, loop.said = self, said
        loop.watch(self.model)
        return loop

    def _source(self, data: Any, size: int | None, *, shuffle: bool, paired: bool = True) -> Source:
        at_least("batch_size", size, 1, optional=True)
        whole = not paired and takes_all(self.module, data)
        return make_source(
            data,
            batch_size=size,
            shuffle=shuffle,
            device=self.device,
            paired=paired,
            whole=whole,
        )

    def _validation(self, data: Any, batch_size: int | None) -> Source | None:
        if data is None:
            return None
        own = not (is_arrays(data) or isinstance(data, Dataset))  # comes in batches already
        return self._source(data, None if own else batch_size, shuffle=False)

    def _held_out(self, data: Any, validation_data: Any, share: float) -> tuple[Any, Any]:
        if not isinstance(share, int | float) or not 0.0 <= share < 1.0:
            message = f"validation_split={share!r} is no share of the data."
            raise ArgumentError(message, fix="choose it from 0 up to, but not including, 1")
        if not share:
            return data, validation_data
        if validation_data is not None:
            message = "Both validation_data and validation_split are given."
            raise ArgumentError(message, fix="leave one of them out")
        return split(data, share)

    def _data_seed(self) -> int:
        """Give the seed of the data order: the trainer's own, or one that differs between fits."""
        if self.seed is not None:
            return self.seed
        self._fits += 1
        return (torch.initial_seed() + self._fits) % 2**63


@contextmanager
def _ends(loop: TrainerLoop, driver: Driver) -> Iterator[None]:
    """Have every callback see its end, and nested runs know that they are nested."""
    with arguments.outermost(loop):
        try:
            if loop.said:
                loop.message(loop.said)
            yield
        except BaseException as error:
            driver.fail(error)
            raise
