"""Checkpoints in the layout of the hub: config.json and model.safetensors in a folder or a repository.

Pickled weights are never read. The normalisation is a separate file, because the authors' constructors would refuse it
in config.json; so their package loads what is written here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from kronos.config import KronosConfig, TokenizerConfig
from kronos.devices import resolve_device
from kronos.errors import CheckpointError, InputError
from kronos.normalisation import NORMALISATION_VERSION, Normalisation

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
NORMALISATION = "normalisation.json"

Model = TypeVar("Model", bound=nn.Module)


def load(
    model_class: type[Model],
    config_class: type[KronosConfig] | type[TokenizerConfig],
    source: str | Path,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    map_location: str | torch.device = "cpu",
) -> Model:
    """A model from a folder or hub id, in eval mode; every tensor is checked by name, shape and finite values.

    The options are those of `huggingface_hub.hf_hub_download`; `map_location` is the model's device.

    Raises CheckpointError for a folder without the two files, for pickled weights, for keys or shapes that do not fit
    the config, and for a normalisation version that this package does not have; InputError for a device that cannot be
    used.
    """
    device = resolve_device(map_location)
    folder = Path(source)
    if folder.is_dir():
        files = {name: folder / name for name in (CONFIG, WEIGHTS, NORMALISATION)}
    else:
        files = _download(
            str(source), revision=revision, cache_dir=cache_dir, token=token,
            local_files_only=local_files_only, force_download=force_download,
        )  # fmt: skip
    _require_files(str(source), files)
    config = config_class.from_dict(_read_json(files[CONFIG]), source=f"{source}/{CONFIG}")
    model = model_class(config=config)
    _load_weights(model, files[WEIGHTS], str(source), device)
    model.normalisation = _read_normalisation(files.get(NORMALISATION), str(source))  # type: ignore[assignment]
    return model.to(device).eval()


def save(model: Any, folder: str | Path, *, normalisation: Normalisation | None = None) -> Path:
    """Write config.json, model.safetensors and, if it is known, normalisation.json; returns the folder."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    normalisation = normalisation or model.normalisation
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, target / WEIGHTS, metadata={"format": "pt"})
    _write_json(target / CONFIG, model.config.to_dict())
    if normalisation is not None:
        _write_json(target / NORMALISATION, normalisation.to_dict())
    else:
        (target / NORMALISATION).unlink(missing_ok=True)  # of a model saved here earlier
    return target


def _download(repository: str, **options: Any) -> dict[str, Path]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    files = {}
    for name in (CONFIG, WEIGHTS, NORMALISATION):
        try:
            files[name] = Path(hf_hub_download(repository, name, **options))
        except LocalEntryNotFoundError as error:  # offline; also an EntryNotFoundError
            if name == NORMALISATION:
                continue
            raise CheckpointError(
                f"{repository}: {name} is not cached and the hub cannot be reached: download it once where it can "
                f"(`hf download {repository}`), or pass a folder with {CONFIG} and {WEIGHTS}"
            ) from error
        except EntryNotFoundError:
            continue
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            raise CheckpointError(
                f"{repository} is neither a folder with {CONFIG} and {WEIGHTS} nor a hub repository that can "
                f"be reached: {error}"
            ) from error
    return files


def _require_files(source: str, files: dict[str, Path]) -> None:
    missing = [name for name in (CONFIG, WEIGHTS) if name not in files or not files[name].is_file()]
    if not missing:
        return
    folder = Path(source)
    pickled = sorted(
        path.name
        for path in (folder.iterdir() if folder.is_dir() else [])
        if path.suffix in {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
    )
    if pickled:
        raise CheckpointError(
            f"{source} contains pickled weights ({', '.join(pickled)}), which can run code when opened and are "
            f"not read: convert them to {WEIGHTS}"
        )
    raise CheckpointError(f"{source}: {' and '.join(missing)} missing")


def _load_weights(model: nn.Module, path: Path, source: str, device: torch.device) -> None:
    try:
        tensors = load_file(path, device=str(device))
    except SafetensorError as error:
        raise CheckpointError(f"{source}/{WEIGHTS} is not a safetensors file: {error}") from error
    expected = model.state_dict()
    missing, unknown = sorted(set(expected) - set(tensors)), sorted(set(tensors) - set(expected))
    if missing or unknown:
        raise CheckpointError(
            f"{source}/{WEIGHTS} does not fit its config: missing {missing[:5]}, unknown {unknown[:5]}"
            f" ({len(missing)} and {len(unknown)} in total)"
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"{source}/{WEIGHTS}: {name} has shape {tuple(tensor.shape)}, its config needs "
                f"{tuple(expected[name].shape)}"
            )
        if tensor.is_floating_point() != expected[name].is_floating_point():
            raise CheckpointError(
                f"{source}/{WEIGHTS}: {name} has type {tensor.dtype}, its config needs {expected[name].dtype}: "
                "quantised weights are not supported"
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{source}/{WEIGHTS}: {name} contains NaN or infinite values")
    model.load_state_dict(tensors, strict=True)


def _read_normalisation(path: Path | None, source: str) -> Normalisation | None:
    if path is None or not path.is_file():
        return None
    values = _read_json(path)
    if values.get("version") != NORMALISATION_VERSION:
        raise CheckpointError(
            f"{source} was trained with normalisation version {values.get('version')}, this package applies "
            f"version {NORMALISATION_VERSION}: train it again, or use the release that wrote it"
        )
    try:
        return Normalisation(**values)
    except (TypeError, InputError) as error:
        raise CheckpointError(f"{source}/{NORMALISATION} is not a valid normalisation: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # no JSON, or no UTF-8
        raise CheckpointError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return values


def _write_json(path: Path, values: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
