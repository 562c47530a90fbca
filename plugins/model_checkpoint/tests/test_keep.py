"""Which files are kept, and which are deleted when."""

from __future__ import annotations

from pathlib import Path

import pytest
from hookloop_model_checkpoint import ModelCheckpoint

from hookloop import files
from hookloop.errors import SettingError

NAN = float("nan")


def numbers(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob("*.pt"))


@pytest.mark.parametrize("async_save", [True, False], ids=["background", "in place"])
@pytest.mark.parametrize(
    ("settings", "values", "kept"),
    [
        ({"keep_last": 2}, [1, 2, 3, 4], [3, 4]),
        ({"keep_last": 9}, [1, 2, 3, 4], [1, 2, 3, 4]),
        ({"keep_last": 1}, [None, None], [2]),
        ({"keep_best": 2}, [3, 1, 2, 4], [2, 3]),
        ({"keep_best": 2, "mode": "max"}, [3, 1, 2, 4], [1, 4]),
        ({"keep_best": 1}, [1, 1], [1]),
        ({"keep_best": 2}, [NAN, 5, NAN, 4], [2, 4]),
        ({"keep_best": 2, "save_best_only": True}, [3, 2, 2.5, 1], [2, 4]),
        ({"keep_last": 1, "keep_best": 1}, [2, 1, 3, NAN, 5], [2, 5]),
        ({"keep_last": 2, "save_best_only": True}, [3, 4, 2, 1], [3, 4]),
    ],
)
def test_what_is_kept(folder, run, async_save, settings, values, kept) -> None:
    """keep_last counts files, keep_best ranks them; with both, either is reason enough."""
    run(ModelCheckpoint("{epoch}.pt", async_save=async_save, **settings), values=values)
    assert numbers(folder) == kept


def test_an_epoch_without_the_metric_is_not_among_the_best(folder, run) -> None:
    """It is said once, and nothing is saved that could not be ranked."""
    with pytest.warns(UserWarning, match="'val_loss' was not reported"):
        run(ModelCheckpoint("{epoch}.pt", keep_best=2), values=[2, None, 1])
    assert numbers(folder) == [1, 3]


def test_a_better_file_of_the_same_name_is_not_replaced(run, capsys) -> None:
    """Two values that are written alike in the path do not swap places."""
    checkpoint = ModelCheckpoint("{val_loss:.0f}.pt", keep_best=2, verbose=1)
    run(checkpoint, values=[0.7, 0.8, 0.6])
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 1: saving model to 1.pt",
        "Epoch 2: val_loss is not among the best 2",
        "Epoch 3: saving model to 1.pt",
    ]


def test_other_files_of_the_folder_are_left_alone(folder, run) -> None:
    """Only what the run itself wrote is deleted, also where a name fits the path."""
    Path("0.pt").write_text("of somebody else")
    run(ModelCheckpoint("{epoch}.pt", keep_last=1), values=[1, 2])
    assert numbers(folder) == [0, 2]


def test_a_file_is_on_disk_before_an_older_one_is_deleted(run, monkeypatch) -> None:
    """Its folder is synced before: at no instant are there fewer whole files than wanted."""
    done: list[str] = []

    class Recorder(files.Disk):
        def replace(self, source: Path, target: Path) -> None:
            super().replace(source, target)
            done.append(f"replace {target.name}")

        def sync_folder(self, folder: Path) -> None:
            super().sync_folder(folder)
            done.append("sync folder")

        def delete(self, path: Path) -> None:
            super().delete(path)
            if path.suffix == ".pt":
                done.append(f"delete {path.name}")

    monkeypatch.setattr(files, "disk", Recorder())
    run(ModelCheckpoint("{epoch}.pt", keep_last=1), values=[1, 2])
    assert done == ["replace 1.pt", "sync folder", "replace 2.pt", "sync folder", "delete 1.pt"]


def test_a_file_that_could_not_be_deleted_is_tried_again(folder, run, monkeypatch) -> None:
    """A failed deletion is no failed save."""

    class Stubborn(files.Disk):
        refusals = 1

        def delete(self, path: Path) -> None:
            if path.suffix == ".pt" and self.refusals:
                self.refusals -= 1
                raise PermissionError(13, "Permission denied")
            super().delete(path)

    monkeypatch.setattr(files, "disk", Stubborn())
    run(ModelCheckpoint("{epoch}.pt", keep_last=1), values=[1, 2])
    assert numbers(folder) == [1, 2]
    Stubborn.refusals = 1
    monkeypatch.setattr(files, "disk", Stubborn())
    run(ModelCheckpoint("{epoch}.pt", keep_last=1), values=[1, 2, 3])
    assert numbers(folder) == [3]


@pytest.mark.parametrize("name", ["keep_last", "keep_best"])
@pytest.mark.parametrize("bound", [0, -1, True, 1.5])
def test_a_bound_that_is_no_positive_number_is_refused(name: str, bound) -> None:
    """Keeping nothing is not what anybody means."""
    with pytest.raises(SettingError, match=f"{name}={bound!r} is no positive whole number"):
        ModelCheckpoint("{epoch}.pt", **{name: bound})


@pytest.mark.parametrize("name", ["keep_last", "keep_best"])
def test_a_bound_needs_more_than_one_name(name: str) -> None:
    """The fix shows the path with a field in it."""
    with pytest.raises(SettingError, match=r"fix: .*'run/m-\{epoch:02d\}\.pt'"):
        ModelCheckpoint("run/m.pt", **{name: 2})
