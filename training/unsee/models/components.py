"""The components of a model in diffusers' format, from a folder or the hub; safetensors only.

A component is what its files say, whole, or refused. The module's top level imports no
deep-learning library.
"""

import importlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from unsee.core.errors import BaseFolderError, first_line
from unsee.models.files.weights import (
    WeightFiles,
    check_names,
    check_types,
    find_weights,
    stored_tensors,
    weight_stem,
)

Precision = Literal["float32", "bfloat16", "float16"]

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_LIBRARIES = ("diffusers", "transformers")


def source_place(folder: Path, source: str) -> Path | str:
    """The folder that `source` names or, where there is none, `source` as a hub id."""
    local = folder / source
    if local.is_dir() or not _HUB_ID.fullmatch(source):
        return local
    return source


def load_component(
    base: str,
    place: Path | str,
    component: str,
    precision: Precision = "float32",
    variant: str | None = None,
) -> Any:
    """The component `component` of the model at `place`, frozen and in eval mode if it has weights.

    Args:
        base: the base's name, for messages.
        precision: of the weights; a model of diffusers still takes and gives float32.
        variant: which of several weight files is read, such as "fp16"; see `find_weights`.

    Raises:
        BaseFolderError: it is missing, unreadable, or its tensors are not those of its class.
    """
    loader = component_type(base, place, component)
    if not _has_weights(loader):
        return _from_pretrained(base, loader, place, component, {})
    loaded = _load_weights(base, loader, place, component, precision, variant)
    if precision != "float32" and _library(loader) == "diffusers":
        _give_borders(loaded)
    return loaded


def load_motion_adapter(base: str, place: Path | str, variant: str | None = None) -> Any:
    """The `MotionAdapter` at `place`, float32, frozen, in eval mode; see `load_component`."""
    if isinstance(place, Path) and not place.is_dir():
        raise BaseFolderError(f"base {base!r} has no motion adapter: {place} is missing")
    from diffusers import MotionAdapter

    return _load_weights(base, MotionAdapter, place, "", "float32", variant)


def load_encoder(folder: Path, kind: Any) -> Any:
    """The text encoder of the class `kind` in `folder`, float32, frozen, in eval mode.

    Raises `BaseFolderError` if it is missing, unreadable, or its tensors are not those of its
    config.
    """
    return _load_weights(folder.name, kind, folder, "", "float32", None)


def component_type(base: str, place: Path | str, component: str) -> Any:
    """The class of a component of the model at `place`. Raises `BaseFolderError` without one."""
    library, class_name = component_class(base, place, component)
    if isinstance(place, Path) and not (place / component).is_dir():
        raise BaseFolderError(f"base {base!r} has no {component}: {place / component} is missing")
    from unsee.models.quiet import quiet_libraries

    with quiet_libraries():
        loader = getattr(importlib.import_module(library), class_name, None)
    if loader is None:
        raise BaseFolderError(
            f"base {base!r}: {place} gives {component} as {class_name}, which the installed "
            f"{library} does not have"
        )
    if not _is_component(loader):
        raise BaseFolderError(
            f"base {base!r}: {place} gives {component} as {class_name}, which is no class of "
            "models, schedulers or tokenizers"
        )
    return loader


def _is_component(loader: Any) -> bool:
    """Whether it reads its own files alone: whole pipelines and Auto classes choose what to run."""
    from diffusers import SchedulerMixin
    from torch.nn import Module
    from transformers import PreTrainedTokenizerBase

    kinds = (Module, SchedulerMixin, PreTrainedTokenizerBase)
    return isinstance(loader, type) and issubclass(loader, kinds)


def check_stored(
    base: str, place: Path, component: str, variant: str | None, loader: Any = None
) -> WeightFiles:
    """Compare the names and shapes in a diffusers component's files with its `config.json`.

    Nothing is loaded. `loader` is the class if the model's index does not give it. Raises
    `BaseFolderError` like `load_component`.
    """
    loader = loader or component_type(base, place, component)
    folder = place / component
    model = hollow(base, place, component, loader)
    with about_base(base):
        weights = find_weights(folder, weight_stem(_library(loader)), variant)
        found = stored_tensors(weights.files)
        check_types(folder, found)
        stored: Any = {name: shape for name, (_, shape) in found.items()}
        stored = model._fix_state_dict_keys_on_load(stored)
        _compare(folder, loader, model, stored)
    return weights


def hollow(base: str, place: Path | str, component: str, loader: Any = None) -> Any:
    """A diffusers model of the component's `config.json`, without values (on the meta device).

    The same one for the same class and config: nobody may change it.
    """
    from unsee.models.quiet import quiet_libraries

    loader = loader or component_type(base, place, component)
    folder = place / component if isinstance(place, Path) else place
    options = {} if isinstance(place, Path) else {"subfolder": component or None}
    try:
        with quiet_libraries():
            return _hollow(loader, json.dumps(loader.load_config(folder, **options)))
    except Exception as error:
        raise _unloadable(base, place, component or loader.__name__, error) from error


@lru_cache(maxsize=8)
def _hollow(loader: Any, config: str) -> Any:
    import torch

    with torch.device("meta"):
        return loader.from_config(json.loads(config))


def _compare(folder: Path, loader: Any, model: Any, stored: dict[str, tuple[int, ...]]) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    buffers = {name for name, _ in model.named_buffers()}
    shared = wanted.keys() & stored.keys()
    check_names(
        folder,
        loader.__name__,
        wanted.keys() - stored.keys() - buffers,
        stored.keys() - wanted.keys() - buffers,
        {
            name: (stored[name], wanted[name])
            for name in shared
            if _sides(stored[name]) != _sides(wanted[name])
        },
    )


def _sides(shape: tuple[int, ...]) -> list[int]:
    """The shape without sides of 1: old files hold linear layers as convolutions."""
    return [side for side in shape if side != 1]


def _load_weights(
    base: str,
    loader: Any,
    place: Path | str,
    component: str,
    precision: Precision,
    variant: str | None,
) -> Any:
    import torch

    folder = place / component if isinstance(place, Path) else f"{place}:{component}"
    if isinstance(folder, Path):
        with about_base(base):
            weights = find_weights(folder, weight_stem(_library(loader)), variant)
            check_types(folder, stored_tensors(weights.files))
            if _library(loader) == "transformers":
                _check_shapes(folder, loader, weights)
        variant = weights.variant
    options = {
        "dtype": getattr(torch, precision),
        "use_safetensors": True,
        "variant": variant,
        "output_loading_info": True,
    }
    model, info = _from_pretrained(base, loader, place, component, options)
    buffers = {name for name, _ in model.named_buffers()}
    with about_base(base):
        check_names(
            folder,
            loader.__name__,
            set(info["missing_keys"]) - buffers,
            set(info["unexpected_keys"]) - buffers,
        )
        _check_finite(folder, model)
    return model.eval().requires_grad_(False)


def _check_shapes(folder: Path, loader: Any, weights: WeightFiles) -> None:
    """Raise `BaseFolderError` if a tensor of a transformers model has another shape than its own.

    The library's own sentence names neither.
    """
    import torch

    from unsee.models.quiet import quiet_libraries

    try:
        with quiet_libraries(), torch.device("meta"):
            model = loader(loader.config_class.from_pretrained(folder))
    except Exception:  # noqa: BLE001 - loading says what is wrong with the config
        return
    prefix = "text_model."
    wanted = {
        name.removeprefix(prefix): tuple(each.shape) for name, each in model.state_dict().items()
    }
    stored = {
        name.removeprefix(prefix): shape
        for name, (_, shape) in stored_tensors(weights.files).items()
    }
    check_names(
        folder,
        loader.__name__,
        (),
        (),
        {
            name: (stored[name], wanted[name])
            for name in wanted.keys() & stored.keys()
            if stored[name] != wanted[name]
        },
    )


def _check_finite(folder: Path | str, model: Any) -> None:
    import torch

    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise BaseFolderError(
                f"{folder} holds values that are not finite numbers in {name} (read as "
                f"{str(parameter.dtype).removeprefix('torch.')}); read the weights in float32, or "
                "download them again"
            )


def _from_pretrained(
    base: str, loader: Any, place: Path | str, subfolder: str, options: dict[str, Any]
) -> Any:
    import torch

    from unsee.models.quiet import quiet_libraries

    if subfolder:
        options = {"subfolder": subfolder, **options}
    with quiet_libraries(), torch.inference_mode(False):
        try:
            return loader.from_pretrained(place, **options)
        except Exception as error:
            raise _unloadable(base, place, subfolder or loader.__name__, error) from error


def _unloadable(base: str, place: Path | str, what: str, error: Exception) -> BaseFolderError:
    remedy = "" if isinstance(place, Path) else "; download it beside base.yaml and name the folder"
    return BaseFolderError(
        f"base {base!r}: the {what} in {_inside(place, what)} cannot be loaded: "
        f"{first_line(error)}{remedy}"
    )


def _inside(place: Path | str, component: str) -> Path | str:
    if isinstance(place, Path):
        return place / component if (place / component).is_dir() else place
    return f"{place}:{component}"


@contextmanager
def about_base(name: str) -> Iterator[None]:
    """Let a `BaseFolderError` of the block begin with the base's name."""
    try:
        yield
    except BaseFolderError as error:
        beginning = f"base {name!r}"
        if str(error).startswith(beginning):
            raise
        raise BaseFolderError(f"{beginning}: {error}") from error


def _has_weights(loader: Any) -> bool:
    import torch

    return issubclass(loader, torch.nn.Module)


def _library(loader: Any) -> str:
    return str(loader.__module__).partition(".")[0]


def _give_borders(component: Any) -> None:
    """Put the float32 borders where a component is called: an autoencoder's parts, else itself."""
    from unsee.models.files.precision import take_and_give_float32

    is_autoencoder = hasattr(component, "encode") and hasattr(component, "decode")
    take_and_give_float32(component.children() if is_autoencoder else [component])


def component_class(base: str, place: Path | str, component: str) -> tuple[str, str]:
    """The library and class name of a component, as the model's index gives them.

    Raises `BaseFolderError` if the index lists none, or one of another library.
    """
    index = model_index(base, place)
    match index.get(component):
        case [str(library), str(class_name)] if library in _LIBRARIES:
            return library, class_name
        case None | [None, None]:
            raise BaseFolderError(f"base {base!r} has no {component}: {place} does not list it")
        case entry:
            raise BaseFolderError(
                f"base {base!r}: {place} gives {component} as {entry}; "
                f"only classes of {' and '.join(_LIBRARIES)} can be loaded"
            )


def model_index(base: str, place: Path | str) -> dict[str, Any]:
    """The content of the model's `model_index.json`. Raises `BaseFolderError` if unreadable."""
    try:
        content = json.loads(_index_file(place).read_text(encoding="utf-8"))
    except Exception as error:
        if isinstance(place, str):
            raise BaseFolderError(
                f"base {base!r}: there is no folder {place} beside base.yaml, and the hub does not "
                f"give the model_index.json of {place}: {first_line(error)}; name the folder, or "
                "download it there"
            ) from error
        if isinstance(error, FileNotFoundError):
            raise BaseFolderError(
                f"base {base!r}: {place} is not a diffusers model folder: it has no "
                f"model_index.json{_snapshots(place)}"
            ) from None
        raise BaseFolderError(
            f"base {base!r}: the model_index.json of {place} cannot be read: {first_line(error)}"
        ) from error
    return content if isinstance(content, dict) else {}


def _snapshots(place: Path) -> str:
    """Where to look instead, if `place` is a model's folder in the hub's cache."""
    found = [index.parent for index in sorted(place.glob("snapshots/*/model_index.json"))]
    return f"; name the folder {found[-1]}" if found else ""


def _index_file(place: Path | str) -> Path:
    if isinstance(place, Path):
        return place / "model_index.json"
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(place, "model_index.json"))
