"""Keras itself, or a sentence that says what is missing; and that it runs on torch."""

from __future__ import annotations

from hookloop.errors import CapabilityError, PluginImportError

_PIP = 'pip install "hookloop-in-keras[keras]"'
_BACKEND = "set KERAS_BACKEND=torch in the environment, before Keras is imported"

try:
    import keras
except ImportError as error:
    if error.name == "keras":
        raise PluginImportError("hookloop_in_keras needs Keras.", fix=_PIP) from error
    # Most of the time TensorFlow, on which Keras runs unless it is told otherwise.
    message = f"Keras is installed, and cannot be imported: {error}"
    raise PluginImportError(message, fix=_BACKEND) from error

__all__ = ["keras", "refuse_other_backends"]


def refuse_other_backends() -> None:
    """Refuse to run where Keras does not run on torch.

    Raises:
        CapabilityError: Saying how to choose it.
    """
    backend = keras.backend.backend()
    if backend != "torch":
        message = f"hookloop's callbacks are for PyTorch, and this Keras runs on {backend}."
        raise CapabilityError(message, fix=_BACKEND)
