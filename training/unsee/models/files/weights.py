"""The weight files of a component's folder: which of them are read, and whether they are whole.

Only safetensors are read. Opens files and compares names and shapes; loads no values.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from unsee.core.errors import BaseFolderError, FileNotWritable

_SUFFIXES = (".safetensors", ".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".h5", ".onnx")
_SHARD = r"-\d{5}-of-\d{5}"
_ADAPTER = re.compile(
    r"adapter_config\.json|adapter_model\..*|.*lora.*\.(safetensors|bin|pt)", re.IGNORECASE
)


@dataclass(frozen=True)
class WeightFiles:
    """The files of a component's weights.

    Args:
        files: one, or the shards of one set.
        variant: what stands between their stem and their suffix, such as "fp16"; None if nothing.
        note: one clause where this is not what `base.yaml` says; "" otherwise.
    """

    files: tuple[Path, ...]
    variant: str | None
    note: str = ""


def find_weights(folder: Path, stem: str, variant: str | None) -> WeightFiles:
    """The safetensors files in `folder` whose names begin with `stem`.

    Those of `variant` are taken if there are any, else the plain ones, else those of the only
    other variant. Raises `BaseFolderError` if there are none, a shard is missing, or several
    variants lie there and none is chosen.
    """
    variants = _variants(folder, stem)
    if variant in variants:
        return WeightFiles(variants[variant], variant)
    if None in variants:
        note = f"no {variant} file here: the plain one is read" if variant else ""
        return WeightFiles(variants[None], None, note)
    if len(variants) == 1:
        ((only, files),) = variants.items()
        return WeightFiles(files, only, f"only the variant {only} is here: it is read")
    if variants:
        names = " and ".join(str(name) for name in variants)
        raise BaseFolderError(
            f"{folder} holds the variants {names}; choose one with the line variant: in base.yaml"
        )
    raise _no_weights(folder, stem)


def stored_tensors(files: Iterable[Path]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Dtype (as safetensors spells it) and shape of every tensor of `files`, by name."""
    from safetensors import SafetensorError, safe_open

    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for file in files:
        try:
            with safe_open(file, framework="numpy") as tensors:
                names = list(tensors.keys())
                for name in names:
                    part = tensors.get_slice(name)
                    found[name] = (part.get_dtype(), tuple(part.get_shape()))
        except (OSError, SafetensorError) as error:
            raise BaseFolderError(
                f"{file} cannot be read as safetensors: {str(error).splitlines()[0]}; "
                "copy or download it again"
            ) from error
    return found


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Let what the system says of safetensors written in the block be a `FileNotWritable`.

    Their library has an error of its own for a full disk.
    """
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise FileNotWritable(f"cannot write {path}: {str(error).splitlines()[0]}") from error


def check_names(
    where: object,
    model: str,
    missing: Iterable[str],
    unexpected: Iterable[str],
    misshapen: Mapping[str, tuple[Any, Any]] | None = None,
) -> None:
    """Raise `BaseFolderError` if any tensor is missing, unexpected or misshapen.

    Args:
        where: the file or folder, for the sentence.
        model: the class that it was to be loaded into.
        misshapen: (the shape in the file, the shape that the model's config gives) by name.
    """
    lacks, strange, problems = sorted(missing), sorted(unexpected), []
    if lacks:
        problems.append(f"lacks {len(lacks)} tensors of {model} (first {lacks[0]})")
    if strange:
        problems.append(f"holds {len(strange)} tensors that are not {model}'s (first {strange[0]})")
    if misshapen:
        name, (found, wanted) = sorted(misshapen.items())[0]
        problems.append(f"holds {name} as {list(found)}, where config.json gives {list(wanted)}")
    if problems:
        remedy = "download the folder again, or convert it with diffusers"
        if any("lora" in name.lower() for name in strange):
            remedy = "merge the LoRA into the weights (diffusers: fuse_lora, then save_pretrained)"
        raise BaseFolderError(f"{where} {' and '.join(problems)}; {remedy}")


def check_types(folder: Path, stored: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
    """Raise `BaseFolderError` if the weights in `folder` are quantised, or integers.

    Such values mean nothing without the scales that some program keeps beside them.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = {}  # loading says what is wrong with it
    quantised = config.get("quantization_config") if isinstance(config, dict) else None
    if quantised:
        raise BaseFolderError(
            f"{folder / 'config.json'} has a quantization_config; put weights there that are not "
            "quantised (float32, float16 or bfloat16)"
        )
    for name, (dtype, _) in stored.items():
        if not dtype.startswith(("F", "BF")) and not name.endswith("position_ids"):
            raise BaseFolderError(
                f"{folder} holds {name} as {dtype}; put weights there that are not quantised "
                "(float32, float16 or bfloat16)"
            )


def adapters_in(folder: Path) -> tuple[Path, ...]:
    """The LoRA files in `folder`, which nothing here applies."""
    if not folder.is_dir():
        return ()
    return tuple(sorted(file for file in folder.iterdir() if _ADAPTER.fullmatch(file.name)))


def weight_stem(library: str) -> str:
    """How the names of a library's weight files begin."""
    return "model" if library == "transformers" else "diffusion_pytorch_model"


def _variants(folder: Path, stem: str) -> dict[str | None, tuple[Path, ...]]:
    """The files of each variant in `folder`, shards together."""
    found: dict[str | None, tuple[Path, ...]] = {}
    single = re.compile(rf"{stem}(?:\.([^.]+?))?\.safetensors")
    index = re.compile(rf"{stem}\.safetensors\.index(?:\.([^.]+))?\.json")
    for file in sorted(folder.iterdir()):
        if match := single.fullmatch(file.name):
            if not re.search(_SHARD, file.name):
                found[match[1]] = (file,)
        elif match := index.fullmatch(file.name):
            found.setdefault(match[1], _shards(file))
    return found


def _shards(index: Path) -> tuple[Path, ...]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise BaseFolderError(f"{index} is no index of weights; download it again") from error
    shards = tuple(index.parent / str(name) for name in names)
    for shard in shards:
        if not shard.is_file():
            raise BaseFolderError(f"{shard}, which {index.name} names, is missing; download it")
    return shards


def _no_weights(folder: Path, stem: str) -> BaseFolderError:
    lying = [file.name for file in sorted(folder.iterdir()) if file.suffix in _SUFFIXES]
    there = f"there are {', '.join(lying)}" if lying else "there are no weights at all"
    remedy = f"put {stem}.safetensors there"
    if any(name.endswith((".bin", ".pt", ".pth", ".ckpt")) for name in lying):
        remedy = f"pickled weights are converted by: unsee base convert {quote(str(folder))}"
    elif any(re.search(_SHARD, name) for name in lying):
        remedy = f"put {stem}.safetensors.index.json there, which says what is in which"
    return BaseFolderError(f"{folder} holds no {stem}.safetensors: {there}; {remedy}")
