"""Embeddings for TensorBoard's projector: tables of vectors and of what each of them is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from hookloop.errors import SettingError, did_you_mean, listed
from hookloop.files import atomic_write
from hookloop_tensorboard._model import outputs

if TYPE_CHECKING:
    from torch import Tensor, nn


class Embeddings:
    """The embeddings of a model that are written, and what is known of their rows.

    Args:
        model: Has the layers.
        layers: Their names; None for every ``nn.Embedding``.
        data: Inputs of which to write what the layers give; None to write their weights.
        metadata: A file for all layers, or one for each: a line for each row, and a heading if
            it has columns. Its path is one from here or from the log folder.
        folder: The log folder.

    Raises:
        SettingError: If a layer or a file is not there, or a file has another number of lines.
    """

    def __init__(
        self, model: nn.Module, layers: Iterable[str] | None, data: Any, metadata: Any, folder: Path
    ) -> None:
        from torch import nn

        from hookloop.structures import as_tensor, leaves, map_structure, to_device

        modules = dict(model.named_modules())
        tables = {n: m for n, m in modules.items() if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
        chosen = [layers] if isinstance(layers, str) else list(tables if layers is None else layers)
        _check_names("embeddings_layer_names", chosen, tables if data is None else modules)
        if not chosen:
            message = "tensorboard: embeddings_freq is set, and the model has no nn.Embedding."
            raise SettingError(message, fix="embeddings_layer_names=[...] and embeddings_data=")
        self._data = None
        sizes = {name: tables[name].num_embeddings for name in chosen if name in tables}
        if data is not None:
            self._data = to_device(map_structure(data, as_tensor), next(model.parameters()).device)
            sizes = dict.fromkeys(chosen, len(next(leaves(self._data))))
        self._layers = chosen
        by_layer = metadata if isinstance(metadata, Mapping) else dict.fromkeys(chosen, metadata)
        _check_names("embeddings_metadata", by_layer, chosen)
        self._metadata = {
            name: _read(Path(path), folder, sizes[name]) for name, path in by_layer.items() if path
        }

    def write(self, model: nn.Module, folder: Path) -> None:
        """Write them into the folder of a run, in place of those of an earlier epoch."""
        from google.protobuf import text_format
        from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

        config = ProjectorConfig()
        vectors = (
            outputs(model, [self._data]) if self._data is not None else dict(self._weights(model))
        )
        for layer in self._layers:
            entry = config.embeddings.add(tensor_name=layer, tensor_path=f"embeddings/{layer}.tsv")
            atomic_write(folder / entry.tensor_path, _table(vectors[layer]))
            if layer in self._metadata:
                entry.metadata_path = f"embeddings/{layer}.metadata.tsv"
                atomic_write(folder / entry.metadata_path, self._metadata[layer])
        text = text_format.MessageToString(config)
        atomic_write(folder / "projector_config.pbtxt", text.encode())

    def _weights(self, model: nn.Module) -> Any:
        return ((name, model.get_submodule(name).weight) for name in self._layers)


def _check_names(setting: str, names: Iterable[str], known: Iterable[str]) -> None:
    for name in set(names) - set(known):
        message = f"tensorboard: {setting} has no layer {name!r} to go with."
        raise SettingError(message + did_you_mean(name, known), fix=f"one of: {listed(known)}")


def _read(path: Path, folder: Path, rows: int) -> bytes:
    file = next((place for place in (path, folder / path) if place.is_file()), None)
    if file is None:
        message = f"tensorboard: embeddings_metadata={str(path)!r} is no file."
        raise SettingError(message, fix=f"a file there, or in {folder}")
    content = file.read_bytes()
    lines = content.splitlines()
    found = len(lines) - (b"\t" in lines[0] if lines else 0)
    if found != rows:
        message = f"tensorboard: {file} describes {found} rows; the embedding has {rows}."
        raise SettingError(message, fix="a line for each row, and a heading only above columns")
    return content


def _table(vectors: Tensor) -> Any:
    """Give a function that writes vectors as text: a line each, exact to float32."""
    import numpy

    rows = vectors.detach().float().cpu().numpy()

    def content(file: IO[bytes]) -> None:
        numpy.savetxt(file, rows, fmt="%.9g", delimiter="\t")

    return content
