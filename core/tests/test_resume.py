"""Going on from a saved state: the run ends as if it had never been interrupted, bit for bit."""

from __future__ import annotations

import copy
import os
import signal

import pytest
import torch
import torchmetrics
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from hookloop import Callback, Trainer, hookimpl, load_weights, rng
from hookloop.checkpoints import save_state
from hookloop.errors import ArgumentError, StateError

EPOCHS = 3
GENERATOR = torch.Generator().manual_seed(1)
X = torch.randn(26, 4, generator=GENERATOR)
Y = (X.sum(1) > 0).long()


class Saver(Callback):
    """Saves the state of the run at every checkpoint hook, each under a path of its own."""

    def __init__(self, folder, suffix):
        self.folder, self.suffix, self.paths = folder, suffix, []

    def save(self, kind):
        path = self.folder / f"{len(self.paths):02d}-{kind}{self.suffix}"
        save_state(path, self.loop.state_dict())
        self.paths.append(path)

    @hookimpl(trylast=True)
    def on_batch_checkpoint(self):
        self.save("batch")

    @hookimpl(trylast=True)
    def on_epoch_checkpoint(self):
        self.save("epoch")


class Patience(Callback):
    """Decides by what it remembers, draws random numbers, and reports both."""

    def __init__(self, patience=2):
        self.patience = patience

    def on_train_begin(self):
        self.best, self.wait, self.drawn = None, 0, None

    def on_epoch_begin(self):
        self.drawn = torch.rand(1).item()

    def on_train_batch_end(self, batch, logs):
        self.loop.log(noise=torch.rand(1).item())

    @hookimpl(tryfirst=True)
    def on_epoch_end(self, logs):
        self.loop.log(drawn=self.drawn)
        loss = logs["val_loss"]
        improved = self.best is None or loss < self.best
        self.best, self.wait = (loss, 0) if improved else (self.best, self.wait + 1)
        if self.wait >= self.patience:
            self.loop.stop("patience")

    def state_dict(self):
        return {"best": self.best, "wait": self.wait, "drawn": self.drawn}

    def load_state_dict(self, state):
        self.best, self.wait, self.drawn = state["best"], state["wait"], state["drawn"]


class Noisy(Dataset):
    """Map-style data with augmentation by torch's own generator."""

    def __len__(self):
        return 26

    def __getitem__(self, index):
        return X[index] + 0.01 * torch.randn(4), Y[index]


class Shuffles:
    """A re-iterable of torch's knowing nothing: a new order each time it is read."""

    def __iter__(self):
        order = torch.randperm(26)
        for rows in order.split(5):
            yield X[rows], Y[rows]


def own_generator():
    generator = torch.Generator().manual_seed(8)
    return DataLoader(TensorDataset(X, Y), 5, shuffle=True, generator=generator)


FORMS = {
    "arrays": lambda: ((X, Y), {"batch_size": 5}),
    "loader": lambda: (DataLoader(TensorDataset(X, Y), 5, shuffle=True), {}),
    "own_generator": lambda: (own_generator(), {}),
    "augmented": lambda: (DataLoader(Noisy(), 5, shuffle=True), {}),
    "iterable": lambda: (Shuffles(), {}),
    "list": lambda: ([(X[i : i + 5], Y[i : i + 5]) for i in range(0, 26, 5)], {}),
    "iterator": lambda: (
        iter([(X[i : i + 2], Y[i : i + 2]) for i in range(0, 26, 2)] * 2),
        {"steps_per_epoch": 6},
    ),
}


def trainer_of(*, accumulate=1, hidden=6, optimizer="adam:lr=0.02", seed=4) -> Trainer:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(4, hidden), nn.Dropout(0.3), nn.Linear(hidden, 2))
    return Trainer(
        model,
        loss="cross_entropy",
        optimizer=optimizer,
        metrics={
            "acc": "accuracy",
            "auroc": torchmetrics.classification.MulticlassAccuracy(2, average="micro"),
        },
        device="cpu",
        seed=seed,
        accumulate=accumulate,
    )


def fit(trainer, form, *, callbacks=(), **options):
    data, own = FORMS[form]()
    validation = DataLoader(TensorDataset(X, Y), 7, shuffle=True)
    own = {"epochs": EPOCHS, "validation_data": validation, "verbose": 0, **own, **options}
    return trainer.fit(data, callbacks=[Patience(), *callbacks], **own)


def end_of(trainer) -> list:
    """All that two runs have to have in common."""
    return [
        trainer.module.state_dict(),
        trainer.optimizer.state_dict(),
        trainer.history.history,
        trainer.history.epoch,
        trainer.history.outcome,
        trainer.history.stop_reason,
        rng.capture(),
    ]


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.reliability("A4", "A5", "A9")
@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("form", FORMS)
def test_a_resumed_run_ends_bit_for_bit_as_the_whole_one(form, accumulate, tmp_path, capsys):
    """From any checkpoint of a run (of arrays: from every one), inside of epochs and between."""
    suffix = ".pt" if accumulate == 1 else ""
    saver, whole = Saver(tmp_path, suffix), trainer_of(accumulate=accumulate)
    fit(whole, form, callbacks=[saver])
    expected = end_of(whole)
    kinds = [path.name[3:8] for path in saver.paths]
    assert kinds == (["batch"] * (6 if accumulate == 1 else 2) + ["epoch"]) * EPOCHS
    for path in saver.paths if form == "arrays" else saver.paths[::4]:
        torch.manual_seed(99)
        resumed = trainer_of(accumulate=accumulate, seed=7)
        fit(resumed, form, resume=path)
        assert same(end_of(resumed), expected), path.name
    out = capsys.readouterr().out
    costs = {
        "iterable": "the batches that were used already are drawn again and thrown away",
        "iterator": "the batches that were used already are drawn from the iterator again",
    }
    assert (costs.get(form, "To go on") in out) is (form in costs)


@pytest.mark.reliability("A6")
def test_loader_workers_go_on_in_the_middle_of_an_epoch(tmp_path):
    """With two workers the batches are drawn again, augmentation included."""

    def run(resume=None, callbacks=()):
        trainer = trainer_of()
        loader = DataLoader(Noisy(), 5, shuffle=True, num_workers=2, multiprocessing_context="fork")
        trainer.fit(loader, epochs=2, verbose=0, callbacks=callbacks, resume=resume)
        return end_of(trainer)

    saver = Saver(tmp_path, ".pt")
    expected = run(callbacks=[saver])
    assert same(run(resume=saver.paths[8]), expected)


class Recording(Callback):
    def __init__(self):
        self.hooks = []

    def on_train_begin(self):
        self.hooks.append(("begin", self.loop.resumed, self.loop.step))

    def on_epoch_begin(self, epoch):
        self.hooks.append(("epoch", epoch))

    def on_train_batch_begin(self, batch):
        self.hooks.append(("batch", batch, self.loop.step))


def test_a_run_goes_on_with_the_batch_after_the_checkpoint(tmp_path):
    """on_epoch_begin is called again for the epoch in the middle of which it goes on."""
    saver = Saver(tmp_path, ".pt")
    fit(trainer_of(), "arrays", callbacks=[saver])
    recording = Recording()
    fit(trainer_of(), "arrays", callbacks=[recording], resume=saver.paths[10], epochs=2)
    assert saver.paths[10].name == "10-batch.pt"
    assert recording.hooks == [
        ("begin", True, 10),
        ("epoch", 1),
        ("batch", 4, 10),
        ("batch", 5, 11),
    ]


@pytest.mark.reliability("A4")
@pytest.mark.parametrize(
    ("which", "epochs", "text"),
    [
        pytest.param(
            -1, 3, "(3 epochs are done, and epochs=3): nothing is left to train.", id="finished"
        ),
        pytest.param(
            -2, 2, "(2 epochs are done, and epochs=2): nothing is left to train.", id="middle"
        ),
    ],
)
def test_resuming_a_finished_run_trains_nothing_and_says_so(which, epochs, text, tmp_path, capsys):
    """Weights and history are those of the state; one line tells."""
    saver, whole = Saver(tmp_path, ".pt"), trainer_of()
    fit(whole, "arrays", callbacks=[saver])
    recording, resumed = Recording(), trainer_of()
    fit(resumed, "arrays", callbacks=[recording], resume=saver.paths[which], epochs=epochs)
    assert len(recording.hooks) == 1
    assert capsys.readouterr().out.endswith(f"The resumed run has ended already {text}\n")
    assert same(resumed.module.state_dict(), whole.module.state_dict())
    assert resumed.history.epoch == whole.history.epoch[: EPOCHS if which == -1 else 2]


class StopsAt(Callback):
    def __init__(self, how):
        self.how = how

    def on_train_batch_end(self, batch):
        if batch == 2 and self.loop.epoch == 1:
            if self.how == "loop":
                self.loop.stop("enough")
            else:
                self.model.stop_training = True


@pytest.mark.parametrize("where", ["on_train_batch_begin", "on_test_batch_begin"])
def test_a_run_that_a_signal_cut_goes_on_as_if_it_had_not_been_cut(where, tmp_path):
    """In a batch or during validation: savers are asked, and the last state leads to the end."""
    saver, cut = Saver(tmp_path, ".pt"), trainer_of(accumulate=4)
    cut.on_interrupt = "return"

    class Interrupts(Callback):
        def interrupt(self, batch):
            if (self.loop.epoch, batch) == (1, 1):
                os.kill(os.getpid(), signal.SIGINT)

    interrupts = Interrupts()
    setattr(interrupts, where, interrupts.interrupt)
    assert fit(cut, "arrays", callbacks=[interrupts, saver]).outcome == "interrupted"
    resumed, whole = trainer_of(accumulate=4), trainer_of(accumulate=4)
    fit(resumed, "arrays", resume=saver.paths[-1])
    found = end_of(resumed)
    fit(whole, "arrays")
    assert same(found, end_of(whole))


@pytest.mark.parametrize("how", ["loop", "model"])
@pytest.mark.parametrize("kind", ["batch", "epoch"])
def test_a_run_that_was_stopped_stays_stopped(how, kind, tmp_path, capsys):
    """From the checkpoint of the batch the epoch is rounded off; after it nothing is trained."""
    saver, whole = Saver(tmp_path, ".pt"), trainer_of()
    fit(whole, "arrays", callbacks=[StopsAt(how), saver])
    path = [one for one in saver.paths if kind in one.name][-1]
    recording, resumed = Recording(), trainer_of()
    fit(resumed, "arrays", callbacks=[recording], resume=path)
    assert [hook for hook in recording.hooks if hook[0] == "batch"] == []
    assert same(end_of(resumed), end_of(whole))
    assert ("nothing is left to train" in capsys.readouterr().out) is (kind == "epoch")


def test_more_epochs_can_be_added_to_a_finished_run(tmp_path):
    """Three epochs and then two more are five."""
    saver = Saver(tmp_path, ".pt")
    fit(trainer_of(), "arrays", callbacks=[saver])
    more, whole = trainer_of(), trainer_of()
    fit(more, "arrays", resume=saver.paths[-1], epochs=5)
    fit(whole, "arrays", epochs=5)
    assert same(end_of(more), end_of(whole))


def test_the_weights_of_a_saved_run_can_be_read_alone(tmp_path):
    """From a file and from a folder."""
    for suffix in (".pt", ""):
        saver, trainer = Saver(tmp_path / f"x{suffix}", suffix), trainer_of()
        saver.folder.mkdir()
        fit(trainer, "arrays", callbacks=[saver], epochs=1)
        other = trainer_of().module
        load_weights(other, saver.paths[-1])
        assert same(other.state_dict(), trainer.module.state_dict())


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """States at the end of the second batch, and of the first epoch."""
    saver = Saver(tmp_path_factory.mktemp("states"), ".pt")
    fit(trainer_of(), "arrays", callbacks=[saver], epochs=1)
    return saver.paths[1], saver.paths[-1]


REFUSED = {
    "model": (
        lambda path: fit(trainer_of(hidden=7), "arrays", resume=path),
        "The state is of another model: 0.weight has shape (6, 4), this model (7, 4); 0.bias has "
        "shape (6,), this model (7,); 2.weight has shape (2, 6), this model (2, 7).\n"
        "fix: build the model as it was when the state was saved",
    ),
    "optimizer": (
        lambda path: fit(trainer_of(optimizer="sgd"), "arrays", resume=path),
        "The state is of the optimizer Adam; this run has SGD.\nfix: use the same class",
    ),
    "settings": (
        lambda path: trainer_of().fit(
            (X, Y), batch_size=5, callbacks=[Patience(patience=5)], resume=path, verbose=0
        ),
        "The state of callback 'patience' was saved with patience=2; now it has patience=5.\n"
        "fix: use the same settings, or give it another name= to begin afresh",
    ),
    "other data inside an epoch": (
        lambda path: fit(trainer_of(), "arrays", resume=path, batch_size=13),
        "The state is of the middle of an epoch of other data: batch size 5 then, 13 now; "
        "batches 6 then, 2 now.\nfix: pass the data and batch size of that run",
    ),
}


@pytest.mark.reliability("G7")
@pytest.mark.parametrize("case", REFUSED)
def test_a_state_of_another_run_is_refused_and_nothing_changes(case, saved, monkeypatch):
    """What differs is named, before any hook runs, and the weights are as they were."""
    act, text = REFUSED[case]
    made = []
    monkeypatch.setattr(Trainer, "_run", _noting_weights(Trainer._run, made))
    with pytest.raises(StateError) as refused:
        act(saved[0])
    assert str(refused.value) == text
    model, before = made[0]
    assert same(model.state_dict(), before)


def _noting_weights(run, made):
    def noting(self, *args):
        made.append((self.module, copy.deepcopy(self.module.state_dict())))
        return run(self, *args)

    return noting


@pytest.mark.parametrize("given", [True, {"model": {}}, b"run"])
def test_what_is_no_path_is_refused(given):
    """Before training, with what to name instead."""
    model = nn.Linear(4, 2)
    trainer = Trainer(model, loss="cross_entropy", optimizer="sgd", device="cpu")
    text = f"A {type(given).__name__} is no path .*\nfix: name the file or folder"
    with pytest.raises(ArgumentError, match=text):
        trainer.fit((X, Y), resume=given, verbose=0)
    with pytest.raises(ArgumentError, match=text):
        load_weights(model, given)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("none.pt", None, "none.pt does not exist.\nfix: name a .pt file or a state folder"),
        ("text.pt", b"no state", "text.pt is damaged or of another format:"),
        ("half.pt", "half", "half.pt is damaged or of another format:"),
    ],
)
def test_a_file_that_is_no_state_is_refused(name, content, text, saved, tmp_path):
    """Missing, foreign or torn: a sentence, before anything happens."""
    path = tmp_path / name
    if content == "half":
        whole = saved[0].read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(StateError) as refused:
        fit(trainer_of(), "arrays", resume=path)
    assert text in str(refused.value)


def test_weights_alone_are_no_state(tmp_path):
    """Who resumes from weights is told how to load them."""
    torch.save(trainer_of().module.state_dict(), tmp_path / "w.pt")
    with pytest.raises(StateError) as refused:
        fit(trainer_of(), "arrays", resume=tmp_path / "w.pt")
    assert str(refused.value) == (
        "This is not the saved state of a run.\n"
        "fix: pass what loop.state_dict() gave; weights: load_weights()"
    )


def test_callbacks_that_came_or_went_are_reported_and_begin_afresh(saved, capsys):
    """Not refused: a logger more or less is nobody's reason to lose a run."""

    class Extra(Callback):
        def state_dict(self):
            return {"n": 1}

        def load_state_dict(self, state):
            raise AssertionError("it was not there")

    history = trainer_of().fit((X, Y), epochs=2, callbacks=[Extra()], resume=saved[1], verbose=0)
    assert history.epoch == [0, 1]
    assert capsys.readouterr().out.splitlines()[-1] == (
        "Since the state was saved, callbacks were added: extra; removed: patience. "
        "Those added begin afresh."
    )


class Total:
    """A plain metric object: no torch, no state_dict."""

    def __init__(self):
        self.reset()

    def reset(self):
        self._sum, self.largest = 0.0, torch.tensor(-9.0)

    def update(self, outputs, targets):
        self._sum += float(outputs.sum())
        self.largest = torch.maximum(self.largest, outputs.max())

    def compute(self):
        return self._sum + float(self.largest)


class Buffered(nn.Module):
    """A metric that is a module: its buffers, and plain numbers beside them."""

    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(()))
        self.count = 0

    def reset(self):
        self.total.zero_()
        self.count = 0

    def update(self, outputs, targets):
        self.total += outputs.sum()
        self.count += len(targets)

    def compute(self):
        return self.total / self.count


@pytest.mark.parametrize(
    "metric", [Total, Buffered, torchmetrics.CatMetric], ids=lambda m: m.__name__
)
def test_metric_objects_go_on_where_they_were(metric, tmp_path):
    """What they have gathered in the open epoch is part of the state, whatever they keep it in."""

    class Cat(torchmetrics.CatMetric):
        def update(self, outputs, targets):
            super().update(outputs[:, 0])

    made = Cat if metric is torchmetrics.CatMetric else metric

    def run(**options):
        torch.manual_seed(0)
        trainer = Trainer(
            nn.Linear(4, 2), loss="cross_entropy", optimizer="sgd", metrics={"m": made()}, seed=1
        )
        return trainer.fit((X, Y), batch_size=5, epochs=2, verbose=0, **options).history["m"]

    saver = Saver(tmp_path, ".pt")
    expected = run(callbacks=[saver])
    for path in (saver.paths[2], saver.paths[9]):
        assert same(run(resume=path), expected)
