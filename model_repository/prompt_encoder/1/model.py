"""`prompt_encoder`: the Triton model that runs every policy; its code is the package beside it.

Triton's stub puts this folder on `sys.path` and looks for `TritonPythonModel` here.
"""

from prompt_encoder.triton_model import TritonPythonModel

__all__ = ["TritonPythonModel"]
