"""Loop: what a callback may see and do."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import nn

from hookloop import Callback, CallbackList, hookimpl
from hookloop.capabilities import FEATURES
from hookloop.errors import ArgumentError, CapabilityError, HookError
from hookloop.loop import Loop


def two_groups() -> torch.optim.Optimizer:
    groups = [{"params": [nn.Parameter(torch.ones(1))], "lr": lr} for lr in (0.1, 0.01)]
    return torch.optim.SGD(groups)


# -- stopping ---------------------------------------------------------------


def test_stop_requests_add_up_and_cannot_be_taken_back() -> None:
    """Reasons are joined; the same reason counts once."""
    loop = Loop(model=None)
    assert (loop.stop_training, loop.stop_reason) == (False, None)
    loop.stop("patience ran out")
    loop.stop("patience ran out")
    loop.stop_training = True
    loop.stop_training = False
    assert (loop.stop_training, loop.stop_reason) == (
        True,
        "patience ran out; stop_training was set",
    )


def test_stop_training_on_the_model_counts_as_in_keras() -> None:
    """On the module or on its wrapper; cleared when a run starts."""
    model, wrapper = nn.Linear(1, 1), nn.Linear(1, 1)
    loop = Loop(model=model)
    loop.watch(wrapper)
    for flagged in (model, wrapper):
        flagged.stop_training = True  # type: ignore[assignment]
        assert (loop.stop_training, loop.stop_reason) == (
            True,
            "stop_training was set on the model",
        )
        loop.clear_flags()
        assert not loop.stop_training


def test_a_flag_from_an_earlier_run_is_cleared_when_a_run_starts() -> None:
    """Or the next ``fit`` would train nothing."""
    model = nn.Linear(1, 1)
    model.stop_training = True  # type: ignore[assignment]
    hooks = CallbackList((), model=model)
    hooks.on_train_begin()
    assert not hooks.loop.stop_training


# -- what it offers ---------------------------------------------------------------


def test_features_are_a_closed_list() -> None:
    """A misspelt one is an error, not False."""
    loop = Loop(model=None)
    assert [loop.supports(feature) for feature in FEATURES] == [False] * len(FEATURES)
    with pytest.raises(CapabilityError) as caught:
        loop.supports("evaluat")
    assert str(caught.value) == (
        "No loop has a feature 'evaluat'. Did you mean 'evaluate'?\n"
        "fix: one of: batch_hooks, before_optimizer_step, test_hooks, predict_hooks, batch_data, "
        "batch_loss, optimizer, set_lr, stop, evaluate, state, exception"
    )


def test_what_a_host_lacks_says_what_to_do_instead() -> None:
    """No optimizer, no evaluation."""
    loop = Loop(model=None)
    with pytest.raises(CapabilityError, match=r"no learning rate.\nfix: pass optimizer="):
        _ = loop.lr
    with pytest.raises(CapabilityError, match=r"\nfix: pass optimizer="):
        loop.set_lr(0.1)
    with pytest.raises(CapabilityError, match=r"\nfix: run your own evaluation"):
        loop.evaluate(None)


def test_a_policy_that_does_not_exist_is_refused() -> None:
    """With those that do."""
    with pytest.raises(ArgumentError) as caught:
        Loop(model=None, policy="ignore")  # type: ignore[arg-type]
    assert str(caught.value) == (
        "on_callback_error='ignore' is no policy.\nfix: 'raise', 'disable' or 'auto'"
    )


def test_the_device_is_that_of_the_model() -> None:
    """CPU where there is nothing to look at."""
    found = [Loop(model=model).device.type for model in (None, nn.ReLU(), nn.Linear(1, 1))]
    assert found == ["cpu"] * 3


# -- learning rate ---------------------------------------------------------------


def test_setting_the_rate_keeps_the_ratios_of_the_groups() -> None:
    """``lr`` is that of the first group, ``lrs`` are all."""
    loop = Loop(model=None, optimizers=[two_groups()])
    loop.set_lr(0.05)
    assert loop.lr == 0.05
    assert loop.lrs == pytest.approx([0.05, 0.005])


def test_a_rate_that_somebody_overwrites_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    """At the next epoch, with what to do."""
    optimizer = two_groups()
    hooks = CallbackList((), model=None, optimizer=optimizer)
    hooks.on_train_begin()
    hooks.loop.set_lr(0.05)
    for epoch in range(3):
        hooks.on_epoch_begin(epoch)
        optimizer.param_groups[0]["lr"] = 0.2
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "The learning rate was set to 0.05 by a callback and overwritten with 0.2 by a scheduler "
        "or other code.",
        "fix: let only one of them set it, or use a scheduler through learning_rate_scheduler",
    ]


@pytest.mark.parametrize("relative", [True, False])
def test_a_rate_made_from_the_one_in_force_overwrites_nothing(
    relative: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two callbacks that build on each other are not said to fight."""
    loop = Loop(model=None, optimizers=[two_groups()])
    loop.set_lr(0.05, by="first")
    loop.set_lr(0.025, by="second", relative=relative)
    assert bool(capsys.readouterr().out) is not relative


def test_who_sets_the_rates_without_the_loop_can_say_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A scheduler of torch changes the groups itself, and is named if it overwrites."""
    optimizer = two_groups()
    loop = Loop(model=None, optimizers=[optimizer])
    for by in ("scheduler", "scheduler", "other"):
        with loop.setting_lr(by=by):
            optimizer.param_groups[0]["lr"] /= 2
    loop.check_rate()
    assert capsys.readouterr().out.splitlines()[0] == (
        "The learning rate was set to 0.025 by scheduler and overwritten with 0.0125 by other."
    )


# -- words ---------------------------------------------------------------


def test_a_line_that_nobody_shows_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """And one that a callback shows is not."""
    shown: list[str] = []

    class Shows(Callback):
        def on_message(self, text: str) -> bool:
            shown.append(text)
            return text.startswith("mine")

    loop = Loop(model=None, callbacks=[("shows", Shows())])
    loop.message("mine: a")
    loop.message("b")
    assert (shown, capsys.readouterr().out) == (["mine: a", "b"], "b\n")


def test_only_rank_zero_speaks(capsys: pytest.CaptureFixture[str]) -> None:
    """Or a line would come once a process."""
    loop = Loop(model=None)
    loop.rank = 1
    loop.message("x")
    assert (loop.is_main, capsys.readouterr().out) == (False, "")


def test_describe_prints_hook_by_hook_who_runs() -> None:
    """In the order in which they do."""

    class Late(Callback):
        @hookimpl(trylast=True)
        def on_epoch_end(self) -> None: ...

        def on_train_end(self) -> None: ...

    class Early(Callback):
        def on_epoch_end(self) -> None: ...

    loop = Loop(model=None, callbacks=[("late", Late()), ("early", Early())])
    out = io.StringIO()
    loop.describe(out)
    assert out.getvalue() == "on_epoch_end: early > late\non_train_end: late\n"


# -- hooks of plugins ---------------------------------------------------------------


def test_a_hook_that_nobody_brought_cannot_be_called() -> None:
    """``loop.call`` says so."""
    with pytest.raises(HookError, match="No hook 'on_saved' is specified"):
        Loop(model=None).call("on_saved", path="x")


def test_loop_is_passed_to_brought_hooks_that_ask_for_it() -> None:
    """The caller need not."""
    from hookloop import hookspec

    class Specs:
        @hookspec
        def on_saved(self, loop: Any, path: str) -> None:
            """A file is on disk."""

    class Owner(Callback):
        hookspecs = Specs

        def on_saved(self, loop: Any, path: str) -> Any:
            return loop, path

    loop = Loop(model=None, callbacks=[("owner", Owner())])
    assert loop.call("on_saved", path="x") == [(loop, "x")]


def test_callbacks_are_found_by_name() -> None:
    """And cannot be changed from a hook."""
    one = Callback()
    loop = Loop(model=None, callbacks=[("one", one)])
    assert loop.callbacks["one"] is one
    with pytest.raises(TypeError):
        loop.callbacks["two"] = one  # type: ignore[index]
