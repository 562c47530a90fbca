"""tensorboard: what TensorBoard shows of a run, without TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hookloop import Callback, hookimpl
from hookloop.errors import CapabilityError, FileError, SettingError, warn
from hookloop.files import file_error, prepare, sweep
from hookloop_tensorboard import _model as models
from hookloop_tensorboard import _summaries as summaries
from hookloop_tensorboard._events import KEPT, EventFiles
from hookloop_tensorboard._profile import Profile
from hookloop_tensorboard._progress import Pace, Progress
from hookloop_tensorboard._projector import Embeddings
from hookloop_tensorboard._settings import batches_between, check_number, profiled

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TensorBoard"]
__version__ = "0.1.0"

TRAIN, VALIDATION = "train", "validation"


class TensorBoard(Callback):
    """Writes what TensorBoard shows: two runs, ``train`` and ``validation``, with the same tags.

    Args:
        log_dir: The log folder, one for each run.
        histogram_freq: Epochs between histograms of weights and of layer outputs; 0 for none.
            Needs validation data.
        write_graph: Whether to write the model's graph, traced with the first batch.
        write_images: Whether to write the weights as pictures: with the histograms, or every
            epoch if there are none.
        write_steps_per_second: Whether to write how many batches were trained in a second.
        update_freq: ``"epoch"``, ``"batch"``, or a number of batches: when to write losses and
            metrics of a batch, besides those of the epoch.
        profile_batch: The batch to profile, from 1, or a range of them: a pair or ``"10,20"``.
        embeddings_freq: Epochs between writing embeddings for the projector; 0 for none.
        embeddings_metadata: File with a line for each row of an embedding, for all or by layer.
        batch_size: Validation samples of which layer outputs are taken.
        write_grads: Whether to write histograms of the gradients, of the first step of an epoch.
        embeddings_layer_names: The layers to write; by default every ``nn.Embedding``.
        embeddings_data: Inputs of the model whose layer outputs to write in place of the weights.

    Raises:
        SettingError: For a setting that makes no sense.
    """

    observer = True
    per_batch = ("reads", "allocates")
    varies = ("files", "events.out.tfevents.*")  # named after, and full of, times

    def __init__(
        self,
        log_dir: str | os.PathLike[str] = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: str | int = "epoch",
        profile_batch: int | str | tuple[int, int] | list[int] = 0,
        embeddings_freq: int = 0,
        embeddings_metadata: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        *,
        batch_size: int = 32,
        write_grads: bool = False,
        embeddings_layer_names: Iterable[str] | None = None,
        embeddings_data: Any = None,
    ) -> None:
        check_number("histogram_freq", histogram_freq, 0)
        check_number("embeddings_freq", embeddings_freq, 0)
        check_number("batch_size", batch_size, 1)
        if write_grads and not histogram_freq:
            message = "tensorboard: write_grads=True has no effect with histogram_freq=0."
            raise SettingError(message, fix="histogram_freq=1")
        self.log_dir, self.batch_size = Path(log_dir), batch_size
        self.histogram_freq, self.embeddings_freq = histogram_freq, embeddings_freq
        self.write_graph, self.write_images = write_graph, write_images
        self.write_steps_per_second, self.write_grads = write_steps_per_second, write_grads
        self._about = (embeddings_layer_names, embeddings_data, embeddings_metadata)
        self._every, batches = batches_between(update_freq), profiled(profile_batch)
        self._profile = (
            Profile(batches, self.log_dir / TRAIN / "plugins/profile") if batches else None
        )
        self._files = EventFiles(self.log_dir, os.urandom(4).hex())
        self._progress, self._pace = Progress(), Pace()
        self._samples = models.Samples(batch_size)
        self._embeddings: Embeddings | None = None
        self._told: set[str] = set()
        self._leave_out("on_train_batch_begin", unless=batches)
        self._leave_out("on_before_optimizer_step", unless=write_grads)
        self._leave_out("on_test_batch_begin", unless=histogram_freq)

    def _leave_out(self, hook: str, *, unless: Any) -> None:
        """Do not implement a hook in which nothing is to be done, so that it costs nothing."""
        if not unless:
            setattr(self, hook, None)

    # -- hooks ------------------------------------------------------------------------------------

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._check_run()
        prepare(self.log_dir / TRAIN / "events", self.loop, self._who)
        if self.embeddings_freq:
            self._embeddings = Embeddings(self.model, *self._about, self.log_dir)
            for place, name in (("embeddings", "*"), (".", "projector_config.pbtxt")):
                sweep(self.log_dir / TRAIN / place, name)
        if not self.loop.resumed and self._files.foreign():
            self.loop.message(
                f"{self._who}: {self.log_dir} holds an earlier run; its curves and those of this "
                "one will be drawn as one.\nfix: give each run a log_dir of its own"
            )
        self._told.clear()
        self._progress.begin_run()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._progress.place(epoch)
        self._pace.begin()

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self._profile is not None:
            self._try("profile", self._profile.batch_begin, self._progress.batches + 1)

    @hookimpl(trylast=True)  # so that gradients are written as they are used, clipped or not
    def on_before_optimizer_step(
        self, optimizer: Any = None, logs: Mapping[str, Any] | None = None
    ) -> None:
        progress = self._progress
        if self._is_due(self.histogram_freq) and progress.gradients < progress.epoch:
            progress.gradients = progress.epoch
            gradients = ((name, weight.grad) for name, weight in self.model.named_parameters())
            self._draw(TRAIN, "gradient_histogram", {n: g for n, g in gradients if g is not None})
            self._write()

    @hookimpl(trylast=True)
    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        progress = self._progress
        progress.end_batch(self.loop.step)
        self._pace.count()
        if not progress.described:
            self._describe()
        if self._every and progress.batches % self._every == 0:
            values = {f"batch_{k}": v for k, v in summaries.numbers(logs or {}).items()}
            if self.write_steps_per_second:
                values["batch_steps_per_second"] = self._pace.recent()
            self._files.add(TRAIN, progress.batches, summary=summaries.scalars(values))
            self._write()
        if self._profile is not None:
            self._try("profile", self._profile.batch_end, progress.batches)

    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._pace.end()

    def on_test_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        # Of every validation, as the epochs of the histograms need not be those of validation.
        if self.loop.inputs is not None:
            if not batch:
                self._samples = models.Samples(self.batch_size)
            self._samples.add(self.loop.inputs)

    @hookimpl(trylast=True)
    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        values = summaries.numbers(logs or {})
        if values:
            named = {f"evaluation_{k}_vs_iterations": v for k, v in values.items()}
            self._files.add(VALIDATION, self._progress.steps, summary=summaries.scalars(named))
            self._write()

    @hookimpl(trylast=True)
    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._progress.place(epoch)  # again, for loops without on_epoch_begin
        if not self._progress.described:
            self._describe()
        self._add_curves(summaries.numbers(logs or {}))
        self._add_weights()
        if self._is_due(self.histogram_freq) and self._samples.batches:
            given = self._try("layer outputs", models.outputs, self.model, self._samples.batches)
            self._draw(VALIDATION, "output_histogram", given or {})
        if self._embeddings is not None and self._is_due(self.embeddings_freq):
            self._try("embeddings", self._embeddings.write, self.model, self.log_dir / TRAIN)
        self._progress.epochs = self._progress.epoch + 1
        self._write()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if self._profile is not None:
            self._try("profile", self._profile.stop)
        self._write()
        lost = self._files.lost + self._files.waiting
        if lost:
            self._warn(f"{lost} records could not be written to {self.log_dir}, and are lost.")

    # -- what is written --------------------------------------------------------------------------

    def _describe(self) -> None:
        """Write what does not change during a run: its configuration, and the model's graph."""
        loop, progress = self.loop, self._progress
        progress.described = True
        parts = {
            "params": "\n".join(f"{key}: {value}" for key, value in self.params.items()),
            "callbacks": "\n".join(loop.callbacks),  # their settings may hold secrets
            "optimizers": "\n".join(map(repr, loop.optimizers)),
            "model": repr(self.model),
        }
        text = summaries.text("configuration", {k: v for k, v in parts.items() if v})
        self._files.add(TRAIN, progress.epoch, summary=text)
        if self.write_graph and not progress.drawn and loop.inputs is not None:
            progress.drawn = True
            for fields in self._try("graph", models.graph, self.model, loop.inputs) or ():
                self._files.add(TRAIN, **fields)
        self._write()

    def _add_curves(self, values: Mapping[str, float]) -> None:
        runs: dict[str, dict[str, float]] = {TRAIN: {}, VALIDATION: {}}
        for key, value in values.items():
            run = VALIDATION if key.startswith("val_") else TRAIN
            runs[run][f"epoch_{key.removeprefix('val_')}"] = value
        if self.loop.optimizers:  # whoever changes the rate logs the one that was in force
            rate = runs[TRAIN].pop("epoch_lr", self.loop.lr)
            runs[TRAIN].setdefault("epoch_learning_rate", rate)
        if self.write_steps_per_second:
            runs[TRAIN]["epoch_steps_per_second"] = self._pace.end()
        for run, named in runs.items():
            if named:
                self._files.add(run, self._progress.epoch, summary=summaries.scalars(named))

    def _add_weights(self) -> None:
        weights = models.weights_of(self.model)
        if self._is_due(self.histogram_freq):
            self._draw(TRAIN, "histogram", weights)
        if self.write_images and self._is_due(self.histogram_freq or 1):
            self._draw(TRAIN, "image", weights)

    def _draw(self, run: str, kind: str, values: Mapping[str, Tensor]) -> None:
        make = summaries.picture if kind == "image" else summaries.histogram
        for name, value in values.items():
            summary = make(f"{name.replace('.', '/')}/{kind}", value)
            if summary is not None:
                self._files.add(run, self._progress.epoch, summary=summary)

    def _write(self) -> None:
        """Write what waits; if that is not possible, keep it, and say so once."""
        try:
            self._files.write()
        except OSError as error:
            if "write" not in self._told:
                self._told.add("write")
                kept = f"up to {KEPT:,} records are kept in memory until they can be written"
                why = error if isinstance(error, FileError) else file_error(self.log_dir, error)
                self._warn(f"{kept}: {why}")

    # -- helpers ----------------------------------------------------------------------------------

    def _check_run(self) -> None:
        """Refuse what this run cannot give, before it trains."""
        loop, validates = self.loop, self.params.get("do_validation")
        draws = self.histogram_freq or self.write_images or self.embeddings_freq
        if draws and not models.weights_of(self.model):
            raise SettingError("tensorboard: there is no model to draw.", fix="pass model=")
        if self.write_grads and not loop.supports("before_optimizer_step"):
            message = f"tensorboard: write_grads=True, and {loop.host} does not show gradients."
            raise CapabilityError(message, fix="leave out write_grads")
        if not self.histogram_freq:
            return
        self._samples = models.Samples(self.batch_size)
        if not loop.supports("batch_data"):  # so the data themselves have to be looked into
            self._samples.add_arrays(self.loop.validation_data, loop.device)
        elif not validates:
            message = "tensorboard: histogram_freq is set, and there are no validation data."
            raise SettingError(message, fix="pass validation_data=, or histogram_freq=0")

    def _is_due(self, frequency: int) -> bool:
        return frequency > 0 and self._progress.epoch % frequency == 0

    def _try(self, what: str, act: Callable[..., Any], *arguments: Any) -> Any:
        """Do what may fail for reasons of the model or machine, and then is left out, said once."""
        try:
            return act(*arguments)
        except Exception as error:
            if type(error).__name__ in ("MemoryError", "OutOfMemoryError", "AcceleratorError"):
                raise
            if what not in self._told:
                self._told.add(what)
                why = str(error).partition("\n")[0]
                self.loop.message(f"{self._who}: no {what}: {type(error).__name__}: {why}")
        return None

    def _warn(self, message: str) -> None:
        warn(f"{self._who}: {message}", RuntimeWarning)

    @property
    def _who(self) -> str:
        names = (name for name, one in self.loop.callbacks.items() if one is self)
        return next(names, "tensorboard")

    # -- state ------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        files = {"key": self._files.key, "lengths": dict(self._files.lengths)}
        return {"progress": asdict(self._progress), "files": files}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._progress = Progress(**state["progress"])
        self._files.continue_from(**state["files"])
