"""Models on disk, in Ollama's own layout: manifests/<host>/<namespace>/<model>/<tag> and
blobs/sha256-<hex>, with `-partial` files of unfinished downloads beside them."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from dev.ollama import gguf_header, library
from ollama_fleet.api.names import InvalidModelName, ModelName

_PARTIAL_LIFETIME = 3600.0


@dataclass(frozen=True, slots=True)
class Model:
    """An installed model. `digest` is its manifest's in bare hex, `weights` the bytes of its
    model layer, `header` the GGUF header's values, `tensors` those of the file."""

    name: ModelName
    digest: str
    size: int
    modified_at: str
    modified_unix: int
    config: dict[str, Any]
    layers: tuple[dict[str, Any], ...]
    weights: int
    weights_path: Path
    header: dict[str, Any]
    tensors: list[dict[str, Any]]
    parameters: dict[str, Any]
    template: str

    @property
    def is_embedding(self) -> bool:
        """Whether it embeds and does not chat."""
        return f"{self.config.get('model_family')}.pooling_type" in self.header

    @property
    def details(self) -> dict[str, Any]:
        """As /api/tags and /api/ps show them."""
        return {
            "parent_model": "",
            "format": self.config.get("model_format", ""),
            "family": self.config.get("model_family", ""),
            "families": self.config.get("model_families"),
            "parameter_size": self.config.get("model_type", ""),
            "quantization_level": self.config.get("file_type", ""),
        }


class Store:
    """The models under one directory. One process writes it at a time."""

    def __init__(self, directory: Path) -> None:
        self._manifests = directory / "manifests"
        self._blobs = directory / "blobs"
        self._manifests.mkdir(parents=True, exist_ok=True)
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._cache: dict[Path, tuple[int, Model]] = {}
        self._paths: dict[ModelName, Path] = {}

    def all(self) -> list[Model]:
        """All installed models, the latest first."""
        models = [self._read(path) for path in self._manifest_paths()]
        return sorted((m for m in models if m), key=lambda m: m.modified_unix, reverse=True)

    def get(self, name: ModelName) -> Model | None:
        """One installed model; names are compared without regard to case."""
        model = self._read(self._path(name))
        if model is not None:
            return model
        for path in self._manifest_paths():
            if self._name(path).is_same(name):
                return self._read(path)
        return None

    def write_manifest(self, name: ModelName, content: bytes) -> None:
        """Install a model whose blobs are all there."""
        path = self._path(self._existing(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def copy(self, source: Model, destination: ModelName) -> None:
        """Give a model a second name."""
        self.write_manifest(destination, self._path(source.name).read_bytes())

    def delete(self, model: Model) -> None:
        """Remove a model, and the blobs that no other model needs."""
        path = self._path(model.name)
        path.unlink()
        self._cache.pop(path, None)
        for parent in list(path.parents)[:3]:
            if any(parent.iterdir()):
                break
            parent.rmdir()
        self.prune(digest for layer in model.layers for digest in [str(layer["digest"])])

    def prune(self, digests: Any) -> None:
        """Remove those of the blobs that no model needs."""
        used = {layer["digest"] for other in self.all() for layer in other.layers}
        for digest in set(digests) - used:
            self.blob(digest).unlink(missing_ok=True)

    def prune_at_start(self) -> None:
        """Remove unneeded blobs, and partial downloads older than an hour, as Ollama does."""
        used = {str(layer["digest"]).replace(":", "-") for m in self.all() for layer in m.layers}
        for path in self._blobs.iterdir():
            if "-partial" in path.name:
                if path.stat().st_mtime < time.time() - _PARTIAL_LIFETIME:
                    path.unlink()
            elif path.name not in used:
                path.unlink()

    def blob(self, digest: str) -> Path:
        """Where a blob lies, there or not."""
        return self._blobs / digest.replace(":", "-")

    def install(self, name: str) -> None:
        """Put a sized stand-in of the library here without a download."""
        package = library.sized(ModelName.parse(name).canonical)
        if package is None:
            raise ValueError(f"EMULATOR_MODELS: the library of stand-ins has no {name}")
        if self.get(ModelName.parse(name)) is not None:
            return
        for digest, blob in package.blobs.items():
            with self.blob(digest).open("wb") as file:
                file.write(blob.content)
                file.truncate(blob.size)
        self.write_manifest(ModelName.parse(name), package.manifest)

    def _existing(self, name: ModelName) -> ModelName:
        model = self.get(name)
        return model.name if model else name

    def _manifest_paths(self) -> list[Path]:
        return [path for path in self._manifests.glob("*/*/*/*") if path.is_file()]

    def _path(self, name: ModelName) -> Path:
        path = self._paths.get(name)
        if path is None:
            path = self._manifests / name.host / name.namespace / name.model / name.tag
            if path.exists():
                self._paths[name] = path
        return path

    def _name(self, path: Path) -> ModelName:
        return ModelName(*path.relative_to(self._manifests).parts)

    def _read(self, path: Path) -> Model | None:
        try:
            stamp = path.stat().st_mtime_ns
            cached = self._cache.get(path)
            if cached is not None and cached[0] == stamp:
                return cached[1]
            model = self._parse(path, stamp)
        except (OSError, ValueError, KeyError, InvalidModelName):
            return None
        self._cache[path] = (stamp, model)
        return model

    def _parse(self, path: Path, stamp: int) -> Model:
        content = path.read_bytes()
        manifest = json.loads(content)
        layers = tuple(manifest["layers"])
        config = manifest["config"]
        found = {layer["mediaType"].rpartition(".")[2]: layer for layer in layers}
        weights = found["model"]
        weights_path = self.blob(weights["digest"])
        with weights_path.open("rb") as file:
            header = gguf_header.read(file)
            tensors = gguf_header.tensors(file)
        return Model(
            name=self._name(path),
            digest=hashlib.sha256(content).hexdigest(),
            size=sum(layer["size"] for layer in layers) + config["size"],
            modified_at=datetime.fromtimestamp(stamp / 1e9).astimezone().isoformat(),
            modified_unix=stamp // 10**9,
            config=json.loads(self.blob(config["digest"]).read_bytes()),
            layers=(*layers, config),
            weights=sum(
                layer["size"]
                for layer in layers
                if layer["mediaType"].endswith((".model", ".projector"))
            ),
            weights_path=weights_path,
            header=header,
            tensors=tensors,
            parameters=json.loads(self.blob(found["params"]["digest"]).read_bytes())
            if "params" in found
            else {},
            template=self.blob(found["template"]["digest"]).read_text()
            if "template" in found
            else "{{ .Prompt }}",
        )
