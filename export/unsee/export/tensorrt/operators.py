"""Which ONNX operators TensorRT's parser takes, and in which types: the table in `operators.json`.

Knows the table alone. What else is asked of some operators is in `audit`.
"""

from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

_TABLE = Path(__file__).with_name("operators.json")


class OperatorTable(BaseModel):
    """The content of `operators.json`, as published for one version of TensorRT.

    `operators` gives each operator that is taken the name of its set in `types`; ONNX's names of
    types there are FP32, FP16, BF16, INT64, UINT8 and so on. `restrictions_not_checked` lists those
    operators with published restrictions that the audit has no rule for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    tensorrt: str
    opset_min: int
    opset_max: int
    types: dict[str, tuple[str, ...]]
    operators: dict[str, str]
    restrictions_not_checked: tuple[str, ...]

    def types_of(self, operator: str) -> tuple[str, ...] | None:
        """The types in which `operator` is taken, or None if it is not."""
        kind = self.operators.get(operator)
        return None if kind is None else self.types[kind]


@cache
def operator_table() -> OperatorTable:
    """The table that this package comes with."""
    return OperatorTable.model_validate_json(_TABLE.read_bytes())
