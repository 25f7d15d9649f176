"""The components of a model in diffusers' format, from a folder or the hub; safetensors only.

Knows the format, not which components there are nor what they are for. Its top level imports no
deep-learning library.
"""

import importlib
import json
import re
from pathlib import Path
from typing import Any, Literal

from unsee.core.errors import BaseFolderError

Precision = Literal["float32", "bfloat16", "float16"]

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_LIBRARIES = ("diffusers", "transformers")


def source_place(folder: Path, source: str) -> Path | str:
    """The folder that `source` names or, where there is none, `source` as a hub id."""
    local = folder / source
    if local.is_dir() or not _HUB_ID.fullmatch(source):
        return local
    return source


def load_component(base: str, place: Path | str, component: str, precision: Precision) -> Any:
    """The component `component` of the model at `place`, frozen and in eval mode if it has weights.

    Those are in `precision`; what is not float32 still takes and gives float32. Raises
    `BaseFolderError`, naming the base, if it is missing or unreadable.
    """
    library, class_name = component_class(base, place, component)
    if isinstance(place, Path) and not (place / component).is_dir():
        raise BaseFolderError(f"base {base!r} has no {component}: {place / component} is missing")
    import torch

    from unsee.models.quiet import quiet_libraries

    with quiet_libraries():
        loader = getattr(importlib.import_module(library), class_name)
    has_weights = issubclass(loader, torch.nn.Module)
    options = _weights(precision) if has_weights else {}
    loaded = _from_pretrained(base, loader, place, component, options)
    if not has_weights:
        return loaded
    if precision != "float32":
        _give_borders(loaded)
    return loaded.eval().requires_grad_(False)


def load_motion_adapter(base: str, place: Path | str) -> Any:
    """The `MotionAdapter` at `place`, float32, frozen, in eval mode.

    Raises `BaseFolderError`, naming the base, if it is missing, unreadable or something else.
    """
    if isinstance(place, Path) and not place.is_dir():
        raise BaseFolderError(f"base {base!r} has no motion adapter: {place} is missing")
    from diffusers import MotionAdapter

    adapter, info = _from_pretrained(
        base, MotionAdapter, place, "", {"output_loading_info": True, **_weights("float32")}
    )
    absent = {name for name, _ in adapter.named_parameters()} & set(info["missing_keys"])
    if absent:
        raise BaseFolderError(
            f"base {base!r}: {place} is not a whole motion adapter: it has no {min(absent)}"
        )
    return adapter.eval().requires_grad_(False)


def _from_pretrained(
    base: str, loader: Any, place: Path | str, subfolder: str, options: dict[str, Any]
) -> Any:
    import torch
    from safetensors import SafetensorError

    from unsee.models.quiet import quiet_libraries

    if subfolder:
        options = {"subfolder": subfolder, **options}
    with quiet_libraries(), torch.inference_mode(False):
        try:
            return loader.from_pretrained(place, **options)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            what = subfolder or loader.__name__
            raise BaseFolderError(
                f"base {base!r}: the {what} in {place} cannot be loaded: {first_line(error)}"
            ) from error


def _weights(precision: Precision) -> dict[str, Any]:
    import torch

    return {"dtype": getattr(torch, precision), "use_safetensors": True}


def _give_borders(component: Any) -> None:
    """Put the float32 borders where a component is called: an autoencoder's parts, else itself."""
    from unsee.models.precision import take_and_give_float32

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
    except FileNotFoundError:
        raise BaseFolderError(
            f"base {base!r}: {place} is not a diffusers model folder: it has no model_index.json"
        ) from None
    except (OSError, ValueError) as error:
        raise BaseFolderError(
            f"base {base!r}: the model_index.json of {place} cannot be read: {first_line(error)}"
        ) from error
    return content if isinstance(content, dict) else {}


def _index_file(place: Path | str) -> Path:
    if isinstance(place, Path):
        return place / "model_index.json"
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(place, "model_index.json"))


def first_line(error: BaseException) -> str:
    """The first line of what the error says, or its class."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
