"""What tensorboard refuses, before training starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hookloop_tensorboard import TensorBoard

from hookloop import CallbackList, Trainer, load
from hookloop.errors import CapabilityError, FileError, SettingError

WORDS = 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"histogram_freq": -1}, "histogram_freq=-1 is no whole number of 0 or more"),
        ({"histogram_freq": True}, "histogram_freq=True"),
        ({"embeddings_freq": 1.5}, "embeddings_freq=1.5"),
        ({"batch_size": 0}, "batch_size=0 is no whole number of 1 or more"),
        ({"update_freq": 0}, "update_freq=0"),
        ({"update_freq": True}, "update_freq=True"),
        ({"update_freq": "epochs"}, "update_freq='epochs'"),
        ({"profile_batch": -1}, "profile_batch=-1"),
        ({"profile_batch": (3, 2)}, r"profile_batch=\(3, 2\)"),
        ({"profile_batch": (0, 2)}, "profile_batch"),
        ({"profile_batch": (1, 2, 3)}, "profile_batch"),
        ({"profile_batch": "two"}, "profile_batch='two'"),
        ({"profile_batch": True}, "profile_batch=True"),
        ({"write_grads": True}, "write_grads=True has no effect with histogram_freq=0"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(settings: dict[str, Any], message: str) -> None:
    """In the constructor, with a fix."""
    with pytest.raises(SettingError, match=f"(?s)tensorboard: {message}.*fix: "):
        TensorBoard(**settings)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("update_freq=10", "_every", 10),
        ("update_freq=batch", "_every", 1),
        ("profile_batch=0", "_profile", None),
        ("profile_batch='0'", "_profile", None),
    ],
)
def test_settings_can_be_written_as_text(text: str, name: str, value: Any) -> None:
    """As on a command line."""
    assert getattr(load(f"tensorboard:{text}"), name) == value


def fit(tmp_path: Path, **settings: Any) -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(WORDS, 2), torch.nn.Flatten())
    trainer = Trainer(model, loss="mse", optimizer="sgd")
    x = torch.zeros(4, 1, dtype=torch.long)
    trainer.fit(
        (x, torch.zeros(4, 2)), callbacks=[TensorBoard(tmp_path / "logs", **settings)], verbose=0
    )


def test_histograms_without_validation_data_are_refused(tmp_path: Path) -> None:
    """They show what layers give for validation samples; nothing has been trained or written."""
    with pytest.raises(SettingError, match=r"(?s)no validation data.*fix: pass validation_data="):
        fit(tmp_path, histogram_freq=1)
    assert not (tmp_path / "logs").exists()


def test_histograms_need_arrays_where_a_loop_does_not_show_its_batches() -> None:
    """Reading a loader would change its order."""
    loader = [(torch.zeros(1, 1), torch.zeros(1, 1))]
    callbacks = CallbackList(
        [TensorBoard(histogram_freq=1)], model=torch.nn.Linear(1, 1), validation_data=loader
    )
    with pytest.raises(SettingError, match=r"validation_data=\(x, y\)"):
        callbacks.on_train_begin()


@pytest.mark.parametrize("setting", ["histogram_freq", "write_images", "embeddings_freq"])
def test_pictures_of_no_model_are_refused(tmp_path: Path, setting: str) -> None:
    """A loop may be run without one."""
    data = (torch.zeros(1, 1), torch.zeros(1, 1))
    board = TensorBoard(tmp_path, **{setting: 1})
    with pytest.raises(SettingError, match="there is no model to draw"):
        CallbackList([board], model=None, validation_data=data).on_train_begin()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"embeddings_layer_names": ["1"]}, "embeddings_layer_names has no layer '1'"),
        ({"embeddings_layer_names": []}, "the model has no nn.Embedding"),
        ({"embeddings_metadata": {"00": "x.tsv"}}, r"no layer '00' to go with.*fix: one of: 0"),
        ({"embeddings_metadata": "nowhere.tsv"}, "embeddings_metadata='nowhere.tsv' is no file"),
    ],
)
def test_embeddings_that_are_not_there_are_refused(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    """With what there is."""
    with pytest.raises(SettingError, match=f"(?s)tensorboard: .*{message}"):
        fit(tmp_path, embeddings_freq=1, **settings)


@pytest.mark.parametrize(
    "content", ["a\nb\nc\nd\n", "word\tkind\na\t1\nb\t2\nc\t3\nd\t4\n", "", "h\n" * 6]
)
def test_metadata_of_another_length_are_refused(tmp_path: Path, content: str) -> None:
    """The projector would show nothing; a heading counts only above columns."""
    path = tmp_path / "words.tsv"
    path.write_text(content)
    with pytest.raises(SettingError, match=r"describes \d rows; the embedding has 5"):
        fit(tmp_path, embeddings_freq=1, embeddings_metadata=path)


def test_two_with_one_folder_are_refused(tmp_path: Path) -> None:
    """Their curves could not be told apart."""
    boards = [TensorBoard(tmp_path), TensorBoard(tmp_path)]
    with pytest.raises(FileError, match="both write"):
        CallbackList(boards, model=None).on_train_begin()


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """Before training, with what to do."""
    (tmp_path / "logs").write_text("")
    with pytest.raises(FileError, match=r"(?s)cannot be written.*fix: "):
        CallbackList([TensorBoard(tmp_path / "logs")], model=None).on_train_begin()


def test_gradients_are_refused_where_a_loop_does_not_show_them(tmp_path: Path) -> None:
    """Rather than left out in silence."""
    callbacks = CallbackList(
        [TensorBoard(tmp_path, histogram_freq=1, write_grads=True)],
        model=torch.nn.Linear(1, 1),
        validation_data=(torch.zeros(1, 1), torch.zeros(1, 1)),
    )
    callbacks.loop.features = callbacks.loop.features - {"before_optimizer_step"}
    with pytest.raises(CapabilityError, match="does not show gradients"):
        callbacks.on_train_begin()
