"""Histograms, pictures of weights, the graph, embeddings and profiles, read back."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from hookloop_tensorboard import TensorBoard
from hookloop_tensorboard._model import twin
from PIL import Image
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from torch import nn

from hookloop import Callback, CallbackList, Trainer, hookimpl

WORDS = 6


class Words(nn.Module):
    """A model with what is easily disturbed: buffers, dropout, a frozen part, a count, a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 3)
        self.more = nn.Embedding(WORDS, 2)
        self.norm = nn.BatchNorm1d(5)
        self.drop = nn.Dropout()
        self.out = nn.Linear(5, 2)
        self.calls, self.seen = 0, []
        self.out.register_forward_hook(lambda *_: self.seen.append(1))
        self.more.weight.requires_grad_(False)
        self.norm.eval()

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        both = torch.cat([self.words(numbers), self.more(numbers)], dim=-1).sum(1)
        return self.out(self.drop(self.norm(both)))


class Weights(Callback):
    """Copies the weights at the end of each epoch, and gradients at its first step."""

    def __init__(self) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []
        self.gradients: list[torch.Tensor] = []

    @hookimpl(trylast=True)
    def on_before_optimizer_step(self) -> None:
        if self.loop.batch == 0:
            self.gradients.append(self.model.out.weight.grad.clone())

    @hookimpl(trylast=True)
    def on_epoch_end(self) -> None:
        state = self.model.state_dict()
        self.weights.append({name: value.clone() for name, value in state.items()})


def fit(*callbacks: Any, model: nn.Module | None = None, **options: Any) -> tuple[Any, Trainer]:
    torch.manual_seed(0)
    model = Words() if model is None else model
    x = torch.randint(0, WORDS, (24, 4), generator=torch.Generator().manual_seed(1))
    trainer = Trainer(model, loss="cross_entropy", optimizer="adam:lr=0.1", seed=1)
    trainer.fit(
        (x, x[:, 0] % 2),
        batch_size=8,
        callbacks=callbacks,
        verbose=0,
        **{"epochs": 3, "validation_data": (x[:10], x[:10, 0] % 2), **options},
    )
    return model, trainer


def moments(event: Any) -> tuple[float, ...]:
    found = event.histogram_value
    return (found.num, found.min, found.max, found.sum, found.sum_squares)


def moments_of(values: torch.Tensor) -> tuple[float, ...]:
    flat = values.detach().double().flatten().numpy()
    return (flat.size, flat.min(), flat.max(), flat.sum(), (flat**2).sum())


def test_histograms_are_of_the_weights_at_the_end_of_the_epoch(tmp_path: Path, read: Any) -> None:
    """Every histogram_freq epochs, from the first; buffers too."""
    weights = Weights()
    fit(TensorBoard(tmp_path, histogram_freq=2), weights)

    events = read(tmp_path / "train").Histograms("out/weight/histogram")
    assert [event.step for event in events] == [0, 2]
    for event in events:
        assert moments(event) == pytest.approx(
            moments_of(weights.weights[event.step]["out.weight"])
        )
        assert sum(event.histogram_value.bucket) == 10
    tags = read(tmp_path / "train").Tags()["histograms"]
    assert "norm/running_mean/histogram" in tags
    assert not [tag for tag in tags if "num_batches_tracked" in tag or "gradient" in tag]


def test_gradients_are_those_of_the_first_step_of_the_epoch(tmp_path: Path, read: Any) -> None:
    """As the optimizer gets them; a frozen layer has none."""
    weights = Weights()
    fit(TensorBoard(tmp_path, histogram_freq=1, write_grads=True), weights)

    run = read(tmp_path / "train")
    events = run.Histograms("out/weight/gradient_histogram")
    assert [event.step for event in events] == [0, 1, 2]
    for event, gradient in zip(events, weights.gradients, strict=True):
        assert moments(event) == pytest.approx(moments_of(gradient))
    assert "more/weight/gradient_histogram" not in run.Tags()["histograms"]


@pytest.mark.parametrize(("batch_size", "samples"), [(4, 4), (9, 9), (50, 10)])
def test_layer_outputs_are_of_the_first_validation_samples(
    tmp_path: Path, read: Any, batch_size: int, samples: int
) -> None:
    """Over batch_size of them, also across batches, in eval mode, each epoch anew."""
    x = torch.randint(0, WORDS, (10, 4), generator=torch.Generator().manual_seed(1))
    model, _ = fit(
        TensorBoard(tmp_path, histogram_freq=1, batch_size=batch_size),
        validation_data=[(part, part[:, 0] % 2) for part in (x[:4], x[4:8], x[8:])],
    )
    events = read(tmp_path / "validation").Histograms("out/output_histogram")
    assert [event.step for event in events] == [0, 1, 2]
    assert moments(events[-1]) == pytest.approx(moments_of(twin(model)(x[:samples])))


def test_layer_outputs_need_no_validation_in_the_epoch_of_the_histograms(
    tmp_path: Path, read: Any
) -> None:
    """The samples are those of the validation before; without any yet there are no outputs."""
    callback = TensorBoard(tmp_path, histogram_freq=2)
    fit(callback, epochs=5, validation_freq=2)
    events = read(tmp_path / "validation").Histograms("out/output_histogram")
    assert [event.step for event in events] == [2, 4]


def test_layer_outputs_in_a_loop_of_ones_own(tmp_path: Path, read: Any) -> None:
    """From the arrays that were passed as validation data."""
    model, x = nn.Linear(2, 1), torch.randn(5, 2)
    callbacks = CallbackList(
        [TensorBoard(tmp_path, histogram_freq=1, batch_size=3)],
        model=model,
        validation_data=(x.numpy(), np.zeros(5)),
    )
    callbacks.on_train_begin()
    callbacks.on_epoch_end(0, {"loss": 1.0})
    callbacks.on_train_end()

    [event] = read(tmp_path / "validation").Histograms("model/output_histogram")
    assert moments(event) == pytest.approx(moments_of(model(x[:3])))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30], ids=["nan", "inf", "huge"])
def test_weights_that_are_not_finite_do_not_stop_anything(
    tmp_path: Path, read: Any, value: float
) -> None:
    """The others of the weight are drawn."""
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[value, 0.5]]))
        model.bias.fill_(value)
    callbacks = CallbackList(
        [TensorBoard(tmp_path, histogram_freq=1, write_images=True)],
        model=model,
        validation_data=(torch.zeros(1, 2), torch.zeros(1)),
    )
    callbacks.on_train_begin()
    callbacks.on_epoch_end(0, {"loss": 1.0})
    callbacks.on_train_end()

    run = read(tmp_path / "train")
    assert moments(run.Histograms("weight/histogram")[0])[:3] == (1, 0.5, 0.5)
    assert run.Tags()["histograms"] == ["weight/histogram"]
    assert len(run.Tags()["images"]) == 2


class Shapes(nn.Module):
    """Weights of every number of dimensions."""

    def __init__(self) -> None:
        super().__init__()
        scale = {"scalar": (), "row": (3,), "tall": (4, 2), "one": (2, 3, 5), "two": (2, 3, 4, 4)}
        for name, shape in {**scale, "three": (1, 1, 2, 2, 2), "wide": (2, 3000)}.items():
            count = int(np.prod(shape))
            self.register_parameter(name, nn.Parameter(torch.arange(count).reshape(shape).float()))


def test_weights_as_pictures(tmp_path: Path, read: Any) -> None:
    """A matrix on its longer side, kernels as tiles, the least value black, the greatest white."""
    callbacks = CallbackList([TensorBoard(tmp_path, write_images=True)], model=Shapes())
    callbacks.on_train_begin()
    callbacks.on_epoch_end(0, {"loss": 1.0})
    callbacks.on_train_end()

    run = read(tmp_path / "train")
    pictures = {
        tag.removesuffix("/image"): np.array(
            Image.open(BytesIO(run.Images(tag)[0].encoded_image_string)).convert("L")
        )
        for tag in run.Tags()["images"]
    }
    assert {name: picture.shape for name, picture in pictures.items()} == {
        "row": (1, 3),
        "tall": (2, 4),
        "one": (2, 15),
        "two": (8, 12),
        "wide": (2, 1024),
    }
    assert pictures["row"].tolist() == [[0, 127, 255]]
    assert pictures["tall"].T.flatten().tolist() == [0, 36, 72, 109, 145, 182, 218, 255]
    kernel = pictures["two"][4:, 8:].astype(int)  # of output 1 and input 2
    assert kernel.min() == pictures["two"][4, 8]
    assert kernel.max() == pictures["two"][7, 11] == 255


def test_pictures_come_with_the_histograms_or_every_epoch(tmp_path: Path, read: Any) -> None:
    """write_images alone needs no validation data."""
    for name, frequency in (("with", 2), ("alone", 0)):
        fit(TensorBoard(tmp_path / name, histogram_freq=frequency, write_images=True))
    steps = {
        name: [event.step for event in read(tmp_path / name / "train").Images("out/weight/image")]
        for name in ("with", "alone")
    }
    assert steps == {"with": [0, 2], "alone": [0, 1, 2]}


def test_the_graph_names_the_layers(tmp_path: Path, read: Any) -> None:
    """It is traced with the first batch, and written once."""
    fit(TensorBoard(tmp_path))

    graph = GraphDef.FromString(read(tmp_path / "train").Graph().SerializeToString())
    layers = {node.name.split("/")[1] for node in graph.node if node.name.startswith("Words/")}
    assert {"Embedding[words]", "BatchNorm1d[norm]", "Linear[out]"} <= layers


def test_no_graph_where_it_is_not_wanted(tmp_path: Path, read: Any) -> None:
    """write_graph=False."""
    fit(TensorBoard(tmp_path, write_graph=False))
    assert not read(tmp_path / "train").Tags()["graph"]


class Named(nn.Module):
    """Takes its inputs by name."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(2, 2)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return self.out(left - right)


@pytest.mark.parametrize("form", [dict, tuple], ids=["mapping", "tuple"])
def test_the_graph_of_a_model_with_several_inputs(tmp_path: Path, read: Any, form: Any) -> None:
    """By name or by position, whatever their order in the data."""
    names = {"right": torch.zeros(8, 2), "left": torch.ones(8, 2)}
    inputs = names if form is dict else tuple(names.values())
    trainer = Trainer(Named(), loss="mse", optimizer="sgd", seed=0)
    board = TensorBoard(tmp_path, histogram_freq=1)
    data = (inputs, torch.zeros(8, 2))
    trainer.fit(data, validation_data=data, callbacks=[board], verbose=0)

    assert read(tmp_path / "train").Tags()["graph"]
    assert "out/output_histogram" in read(tmp_path / "validation").Tags()["histograms"]


def test_a_model_that_cannot_be_traced_is_trained(
    tmp_path: Path, read: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says why there is no graph."""

    class Untraceable(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if torch.jit.is_tracing():
                raise RuntimeError("not like this\nnor that")
            return super().forward(x)

    trainer = Trainer(Untraceable(1, 1), loss="mse", optimizer="sgd", seed=0)
    x = torch.zeros(4, 1)
    trainer.fit((x, x), callbacks=[TensorBoard(tmp_path)], epochs=2, verbose=0)

    assert capsys.readouterr().out == "tensorboard: no graph: RuntimeError: not like this\n"
    assert len(read(tmp_path / "train").Scalars("epoch_loss")) == 2


EVERYTHING = {
    "histogram_freq": 1,
    "write_images": True,
    "write_grads": True,
    "write_steps_per_second": True,
    "update_freq": "batch",
    "profile_batch": (2, 3),
    "embeddings_freq": 1,
}


def test_nothing_of_it_changes_the_training(tmp_path: Path) -> None:
    """Weights, buffers, history, modes, hooks, gradients and random numbers, bit for bit."""
    (bare, trainer), (watched, other) = fit(), fit(TensorBoard(tmp_path, **EVERYTHING))

    assert trainer.history.history == other.history.history
    for name, value in bare.state_dict().items():
        assert torch.equal(value, watched.state_dict()[name]), name
    assert (bare.calls, len(bare.seen)) == (watched.calls, len(watched.seen))
    for one, two in zip(bare.modules(), watched.modules(), strict=True):
        assert one.training == two.training
        assert len(one._forward_hooks) == len(two._forward_hooks)
    for one, two in zip(bare.parameters(), watched.parameters(), strict=True):
        assert one.requires_grad == two.requires_grad
        assert one.grad is two.grad is None or torch.equal(one.grad, two.grad)


def test_a_twin_shares_the_parameters_and_nothing_else() -> None:
    """So that looking into a large model needs no second one."""
    model = Words()
    copied = twin(model)
    copied.norm.running_mean.fill_(7)
    copied(torch.zeros(1, 4, dtype=torch.long))

    assert copied.out.weight is model.out.weight
    assert model.norm.running_mean.tolist() == [0] * 5
    assert (model.calls, model.seen) == (0, [])
    assert (model.training, copied.training) == (True, False)


# -- embeddings ---------------------------------------------------------------


def projector(folder: Path) -> dict[str, tuple[np.ndarray, str]]:
    """What the projector gets: for each embedding its vectors and its metadata."""
    config = text_format.Parse(
        (folder / "train" / "projector_config.pbtxt").read_text(), ProjectorConfig()
    )
    return {
        one.tensor_name: (
            np.loadtxt(folder / "train" / one.tensor_path, dtype=np.float32, ndmin=2),
            (folder / "train" / one.metadata_path).read_text() if one.metadata_path else "",
        )
        for one in config.embeddings
    }


def test_every_embedding_is_there_under_its_own_name(tmp_path: Path) -> None:
    """With exactly its weights at the end of the last epoch that was due."""
    model, _ = fit(TensorBoard(tmp_path, embeddings_freq=2))

    found = projector(tmp_path)
    assert sorted(found) == ["more", "words"]
    assert np.array_equal(found["words"][0], model.words.weight.detach().numpy())
    assert found["words"][1] == ""


def test_metadata_go_with_their_layer_and_the_users_mapping_stays(tmp_path: Path) -> None:
    """Also for two fits; a copy stands in the log folder, which can be moved."""
    path = tmp_path / "words.tsv"
    path.write_text("word\tkind\n" + "".join(f"w{i}\tk\n" for i in range(WORDS)))
    metadata = {"words": str(path)}
    for _ in range(2):
        fit(
            TensorBoard(tmp_path / "logs", embeddings_freq=1, embeddings_metadata=metadata),
            epochs=1,
        )
    assert metadata == {"words": str(path)}
    found = projector((tmp_path / "logs").rename(tmp_path / "moved"))
    assert found["words"][1] == path.read_text()
    assert found["more"][1] == ""


def test_metadata_may_stand_in_the_log_folder(tmp_path: Path) -> None:
    """As in Keras; one file serves all layers that are written."""
    (tmp_path / "meta.tsv").write_text("".join(f"w{i}\n" for i in range(WORDS)))
    fit(
        TensorBoard(
            tmp_path,
            embeddings_freq=1,
            embeddings_metadata="meta.tsv",
            embeddings_layer_names=["more"],
        )
    )
    found = projector(tmp_path)
    assert list(found) == ["more"]
    assert found["more"][1].startswith("w0\n")


def test_embeddings_of_data_are_what_the_layers_give(tmp_path: Path) -> None:
    """Of any layer, a row for each sample."""
    x = np.array([[0, 1, 2, 3], [5, 5, 5, 5]])
    board = TensorBoard(
        tmp_path, embeddings_freq=1, embeddings_layer_names=["out"], embeddings_data=x
    )
    model, _ = fit(board)

    wanted = twin(model)(torch.from_numpy(x)).detach().numpy()
    assert np.array_equal(projector(tmp_path)["out"][0], wanted)


# -- profile ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile_batch", "folder"),
    [(2, "2-2"), ((2, 4), "2-4"), ([2, 4], "2-4"), ("2,4", "2-4"), ((8, 100), "8-100")],
    ids=["one", "pair", "list", "text", "longer than the run"],
)
def test_a_profile_is_a_trace_of_these_batches(
    tmp_path: Path, profile_batch: Any, folder: str
) -> None:
    """In the form that Perfetto and TensorBoard's profiler read, with one step of Adam a batch."""
    fit(TensorBoard(tmp_path, profile_batch=profile_batch))

    [trace] = (tmp_path / "train" / "plugins" / "profile" / folder).glob("*.pt.trace.json")
    names = [event.get("name", "") for event in json.loads(trace.read_text())["traceEvents"]]
    first, last = (min(int(number), 9) for number in folder.split("-"))
    steps = [name for name in names if name.startswith("Optimizer.step#Adam")]
    assert len(steps) == last - first + 1


def test_by_default_there_is_no_profile(tmp_path: Path) -> None:
    """profile_batch=0."""
    fit(TensorBoard(tmp_path))
    assert not (tmp_path / "train" / "plugins").exists()


def test_a_profiler_that_is_under_way_already_is_left_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The run goes on; one line says that there is no profile."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as outer:
        fit(TensorBoard(tmp_path, profile_batch=2))

    assert (
        capfd.readouterr().out
        == "tensorboard: no profile: RuntimeError: another profiler is at work\n"
    )
    assert [event.key for event in outer.key_averages() if "Adam" in event.key]
