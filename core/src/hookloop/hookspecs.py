"""The hooks of hookloop: the contract between a loop and its callbacks.

This module is the only place in which a hook is written down; whatever needs the list of hooks
(the base class, the compiled dispatch, the documentation, the command line) derives it from here.

The loop, with every hook on its line::

    on_train_begin
    for epoch in epochs:
        on_epoch_begin
        for batch in batches:
            on_train_batch_begin
            zero gradients (first micro-batch of an accumulation window), forward, loss, backward
            on_before_optimizer_step        (last micro-batch of a window)
            optimizer step                  (last micro-batch of a window)
            on_train_batch_end
            on_batch_checkpoint             (no window is open)
        on_test_begin                       (epochs with validation)
        for batch in validation batches:
            on_test_batch_begin
            forward, loss, metrics
            on_test_batch_end
        on_test_end
        on_epoch_end
        on_epoch_checkpoint
    on_exception                            (the run is ending with one)
    on_train_end

    on_predict_begin
    for batch in batches:
        on_predict_batch_begin
        forward
        on_predict_batch_end
    on_predict_end

    on_message                              (whenever somebody has a line for the user)

What is common to all hooks, and stated once:

* A callback implements a hook by a method of its name that takes any subset of the arguments.
* Callbacks run in list order, for end hooks too; ``tryfirst`` ones before, ``trylast`` ones after.
* Return values are ignored, unless the hook says otherwise.
* An exception ends the run, with a note that names callback, hook, epoch and batch, or, if the
  callback is an ``observer``, turns that callback off with a warning.
* ``epoch`` and ``batch`` count from 0; ``batch`` counts micro-batches within the epoch.
* ``logs`` is one mapping, shared by all callbacks of one call, which may be added to. Its values
  are floats to whoever reads them; a value on an accelerator is waited for only then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from hookloop.logs import Logs
    from hookloop.loop import Loop

PROJECT = "hookloop"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

#: Older spellings that Keras still accepts, and the hook that each of them means.
SPELLINGS = {"on_batch_begin": "on_train_batch_begin", "on_batch_end": "on_train_batch_end"}


@hookspec
def on_train_begin(loop: Loop, logs: Logs) -> None:
    """Training is about to start.

    When: first of all hooks of a run, after ``set_loop``, ``set_params`` and ``set_model``; before
    the first ``on_epoch_begin``. Reset what a new run needs fresh: saved state of an interrupted
    run is put back after this hook.

    How often: once a run.

    Args:
        loop: The running loop.
        logs: Empty.

    Raises: An exception here ends the run before any training. Callbacks further down the list
        whose ``on_train_begin`` was not reached get no end hook either.
    """


@hookspec
def on_epoch_begin(loop: Loop, epoch: int, logs: Logs) -> None:
    """An epoch is about to start.

    When: after ``on_train_begin`` or the previous ``on_epoch_checkpoint``, before the first
    ``on_train_batch_begin``. A stop requested here means that no batch of the epoch runs.

    How often: once an epoch; once more for an epoch that a resumed run continues in its middle.

    Args:
        loop: The running loop; ``loop.epoch`` is already this epoch.
        epoch: Index of the epoch, from 0.
        logs: Empty.
    """


@hookspec
def on_train_batch_begin(loop: Loop, batch: int, logs: Logs) -> None:
    """A training batch has been fetched and is about to be used. Also spelt ``on_batch_begin``.

    When: before the gradients are zeroed and the model is called.

    How often: once a micro-batch, so ``accumulate`` times as often as the optimizer steps.

    Args:
        loop: The running loop; ``loop.inputs`` and ``loop.targets`` are this batch, on the device,
            where the host has them.
        batch: Index of the micro-batch in the epoch, from 0.
        logs: ``size``, the number of samples.
    """


@hookspec
def on_before_optimizer_step(loop: Loop, optimizer: Optimizer, logs: Logs) -> None:
    """Gradients are complete and about to be used: the place to clip or to inspect them.

    When: after backward, before ``optimizer.step()``. A stop requested here skips the step.

    How often: once an optimizer step; with gradient accumulation, once a window.

    Args:
        loop: The running loop; ``loop.loss`` is the loss of the current micro-batch (0-d tensor).
        optimizer: The optimizer that is about to step; the ``.grad`` of its parameters may be
            changed in place.
        logs: ``size`` and ``loss`` of the current micro-batch; what is added appears in
            ``on_train_batch_end``.
    """


@hookspec
def on_train_batch_end(loop: Loop, batch: int, logs: Logs) -> None:
    """A training batch is done. Also spelt ``on_batch_end``.

    When: after the optimizer step, if this batch had one; before ``on_batch_checkpoint``. A stop
    requested here lets the checkpoint hook run and draws no further batch.

    How often: once a micro-batch.

    Args:
        loop: The running loop; ``loop.outputs`` and ``loop.loss`` are of this batch, by reference.
        batch: Index of the micro-batch in the epoch, from 0.
        logs: ``size``, ``loss`` and each metric of this batch alone, not a running mean. Numeric
            keys that are added are averaged by ``size`` into the logs of the epoch. Reading a
            value on an accelerator waits for it.
    """


@hookspec
def on_batch_checkpoint(loop: Loop, batch: int, logs: Logs) -> None:
    """Everything of the batch is decided and recorded: the place to save.

    When: after every callback's ``on_train_batch_end``, before the next batch is drawn. Only here
    and in ``on_epoch_checkpoint`` may ``loop.state_dict()`` be taken.

    How often: once an optimizer step: not while an accumulation window is open. Once more for the
    same batch if a signal ends the run before the end of its epoch, in validation for example:
    ``loop.interrupted`` is true then.

    Args:
        loop: The running loop.
        batch: Index of the micro-batch in the epoch, from 0.
        logs: The same mapping as in ``on_train_batch_end``.
    """


@hookspec
def on_test_begin(loop: Loop, logs: Logs) -> None:
    """Validation or evaluation is about to start; the model is in ``eval`` mode.

    When: after the last batch of the epoch, or first of all in ``evaluate``.

    How often: once an evaluation.

    Args:
        loop: The running loop.
        logs: Empty.
    """


@hookspec
def on_test_batch_begin(loop: Loop, batch: int, logs: Logs) -> None:
    """A batch of validation or evaluation has been fetched.

    When: between ``on_test_begin`` and the model's forward pass.

    How often: once a batch; gradient accumulation does not matter here.

    Args:
        loop: The running loop.
        batch: Index of the batch in this evaluation, from 0.
        logs: ``size``, the number of samples.
    """


@hookspec
def on_test_batch_end(loop: Loop, batch: int, logs: Logs) -> None:
    """A batch of validation or evaluation is done.

    When: after the forward pass, the loss and the metrics of the batch.

    How often: once a batch.

    Args:
        loop: The running loop; ``loop.outputs`` is of this batch.
        batch: Index of the batch in this evaluation, from 0.
        logs: ``size``, ``loss`` and each metric of this batch alone, without ``val_``. Numeric
            keys that are added are averaged by ``size`` into ``on_test_end``.
    """


@hookspec
def on_test_end(loop: Loop, logs: Logs) -> None:
    """Validation or evaluation is done.

    When: after the last ``on_test_batch_end``; during ``fit``, before ``on_epoch_end``.

    How often: once an evaluation, also one that an exception cut.

    Args:
        loop: The running loop.
        logs: ``loss`` and the metrics over all samples, without ``val_``. A key that is added
            here during ``fit`` arrives in ``on_epoch_end`` as ``val_<key>``.
    """


@hookspec
def on_epoch_end(loop: Loop, epoch: int, logs: Logs) -> None:
    """An epoch is done, its validation included: the place to decide and to record.

    When: after validation, before ``on_epoch_checkpoint``. Convention: whatever adds to ``logs``
    is ``tryfirst``, whatever decides is neither, whatever records is ``trylast``.

    How often: once an epoch, also one that a stop request cut; not if the run fails or is
    interrupted.

    Args:
        loop: The running loop.
        epoch: Index of the epoch, from 0.
        logs: Means over the samples of the epoch, what callbacks logged, and ``val_*`` where
            validation ran in this epoch. Values are fresh or absent, never of an older epoch.
    """


@hookspec
def on_epoch_checkpoint(loop: Loop, epoch: int, logs: Logs) -> None:
    """Everything of the epoch is decided and recorded: the place to save.

    When: after every callback's ``on_epoch_end``, before the next ``on_epoch_begin``.

    How often: once an epoch that had an ``on_epoch_end``.

    Args:
        loop: The running loop.
        epoch: Index of the epoch, from 0.
        logs: The same mapping as in ``on_epoch_end``.
    """


@hookspec
def on_train_end(loop: Loop, logs: Logs) -> None:
    """Training is over, however it ended; ``loop.outcome`` says how. The place to close things.

    When: last of all hooks of a run.

    How often: once, for every callback that saw ``on_train_begin``, also after an exception.

    Args:
        loop: The running loop; ``outcome`` is ``finished``, ``stopped``, ``failed`` or
            ``interrupted``. Only the first two allow cleaning up after success.
        logs: Those of the last completed epoch, with what callbacks added to them.

    Raises: An exception here does not keep the other callbacks from their ``on_train_end``; the
        first is raised when all have run, the others become its notes.
    """


@hookspec
def on_predict_begin(loop: Loop, logs: Logs) -> None:
    """Prediction is about to start; the model is in ``eval`` mode.

    When: first of all hooks in ``predict``.

    How often: once a prediction.

    Args:
        loop: The running loop.
        logs: Empty.
    """


@hookspec
def on_predict_batch_begin(loop: Loop, batch: int, logs: Logs) -> None:
    """A batch to predict has been fetched.

    When: before the forward pass.

    How often: once a batch.

    Args:
        loop: The running loop.
        batch: Index of the batch, from 0.
        logs: ``size``, the number of samples.
    """


@hookspec
def on_predict_batch_end(loop: Loop, batch: int, logs: Logs) -> None:
    """A batch has been predicted.

    When: after the forward pass.

    How often: once a batch.

    Args:
        loop: The running loop.
        batch: Index of the batch, from 0.
        logs: ``size``, and ``outputs``: what the model returned, on its device.
    """


@hookspec
def on_predict_end(loop: Loop, logs: Logs) -> None:
    """Prediction is done.

    When: last of all hooks in ``predict``, also after an exception.

    How often: once a prediction.

    Args:
        loop: The running loop.
        logs: Empty.
    """


@hookspec
def on_exception(loop: Loop, exception: BaseException) -> None:
    """The run is ending with an exception, which goes on to the caller afterwards.

    When: before ``on_train_end``, as soon as the exception has left the step.

    How often: at most once a run, for every callback that saw ``on_train_begin``.

    Args:
        loop: The running loop; ``loop.outcome`` is ``failed`` or ``interrupted``.
        exception: What ends the run, ``KeyboardInterrupt`` included. It cannot be swallowed.

    Raises: An exception here becomes a note of the one that ends the run.
    """


@hookspec(firstresult=True)
def on_message(loop: Loop, text: str) -> bool | None:
    """Somebody has a line for the user: ``loop.message(text)`` was called.

    When: at any time, on rank 0.

    How often: once a line.

    Args:
        loop: The running loop.
        text: The line, without a line end.

    Returns:
        True if this callback has shown the line, which ends the search; else None. A line that
        nobody shows is printed.
    """


def names(module: Any = None) -> list[str]:
    """List the hooks that a module or class specifies, in the order in which they are written.

    Args:
        module: What holds the specifications; by default this module.
    """
    members = globals() if module is None else {n: getattr(module, n) for n in vars(module)}
    return [name for name, member in members.items() if hasattr(member, f"{PROJECT}_spec")]
