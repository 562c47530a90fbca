"""Capabilities: what a loop may offer, and which of it each of our loops does."""

from __future__ import annotations

#: All that a host may offer, and a callback may need. Closed: a host supports some of these.
FEATURES = (
    "batch_hooks",
    "before_optimizer_step",
    "test_hooks",
    "predict_hooks",
    "batch_data",
    "batch_loss",
    "optimizer",
    "set_lr",
    "stop",
    "evaluate",
    "state",
    "exception",
)


def _all_but(*lacking: str) -> frozenset[str]:
    return frozenset(FEATURES).difference(lacking)


#: What each host offers; also what a refusal names as able. The bridges are packages of their own
#: and read their row from here, so that the sentence is whole where they are not installed.
HOSTS: dict[str, frozenset[str]] = {
    "Trainer": _all_but(),
    "attach": _all_but("predict_hooks", "batch_data", "evaluate"),
    "CallbackList": _all_but("batch_data", "evaluate"),
    "Lightning": _all_but("evaluate", "state"),
    "transformers": _all_but("evaluate", "state"),
    "Keras": _all_but("before_optimizer_step", "optimizer", "evaluate", "state"),
    "skorch": _all_but("predict_hooks", "evaluate", "state"),
    "Ignite": _all_but("predict_hooks", "evaluate", "state"),
}
