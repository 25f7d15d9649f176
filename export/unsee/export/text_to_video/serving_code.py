"""Where the code of `text_to_video` lies, and how this process runs it without a server.

It is a package of its own, `text_to_video`, that the server imports from a version folder. Knows no
more of it than that.
"""

import importlib
import importlib.util
import sys
from pathlib import Path

from unsee.core.errors import RepositoryError

PACKAGE = "text_to_video"
_VERSION_DIR = Path(PACKAGE) / "1"


def code_dir() -> Path:
    """The version folder with `model.py` and the package: the installed one or the checkout's.

    Raises `RepositoryError` if this installation lacks it.
    """
    here = Path(__file__).parent
    installed, checkout = here / "1", here.parents[3] / "model_repository" / _VERSION_DIR
    for folder in (installed, checkout):
        if (folder / "model.py").is_file():
            return folder
    raise RepositoryError(
        f"this installation lacks the code of {PACKAGE} (looked in {installed} and {checkout}); "
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
