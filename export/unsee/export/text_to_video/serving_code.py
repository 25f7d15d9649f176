"""Where the code of the Python models lies, and how this process runs that of `text_to_video`.

Each is a package of its own, named like its model, that the server imports from a version folder.
"""

import importlib
import importlib.util
import sys
from pathlib import Path

from unsee.core.errors import RepositoryError
from unsee.repository.layout import TEXT_TO_VIDEO, VERSION

PACKAGE = TEXT_TO_VIDEO


def code_dir(model: str = TEXT_TO_VIDEO) -> Path:
    """The version folder with `model.py` and the package: the installed one or the checkout's.

    Raises `RepositoryError` if this installation lacks it.
    """
    export, root = Path(__file__).parents[1], Path(__file__).parents[4]
    installed = export / model / str(VERSION)
    checkout = root / "model_repository" / model / str(VERSION)
    for folder in (installed, checkout):
        if (folder / "model.py").is_file():
            return folder
    raise RepositoryError(
        f"this installation lacks the code of {model} (looked in {installed} and {checkout}); "
        "install unsee again"
    )


def make_importable() -> None:
    """Let `import text_to_video` find the package, wherever it lies; `sys.path` stays as it is.

    Raises `RepositoryError` if this installation lacks it.
    """
    if PACKAGE in sys.modules or importlib.util.find_spec(PACKAGE) is not None:
        return
    folder = code_dir() / PACKAGE
    spec = importlib.util.spec_from_file_location(
        PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = package
    spec.loader.exec_module(package)
