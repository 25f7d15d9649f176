"""What the JSON files of a model repository hold; `base.json` is in `unsee.repository.base`.

Every record is frozen and refuses fields that it does not know. Each names its format: a later
change of what a file holds counts `schema_version` up, and who reads an older or a newer one says
what to do. Lines of logs have no number: a field that is added there needs a default.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationError

from unsee.core.errors import InputError
from unsee.core.files import user_at_host
from unsee.core.policy import Concept, PolicyName, Thresholds
from unsee.core.validation import ClosedModel, describe

GraphPrecision = Literal["float32", "float16"]
"""How a graph computes inside; its borders are FP32, INT64 or UINT8 in either."""
RevisionKind = Literal["edit", "encoder"]
"""Whether a revision's graph takes the encoder's states, or token ids in the encoder's place."""
Number = Annotated[int, Field(ge=1)]
"""The number of a revision."""


AnyRecord = TypeVar("AnyRecord", bound=ClosedModel)


class SizeParity(ClosedModel):
    """The difference at one size: `max_abs` in the output's units, `max_rel` = max_abs / std.

    std is the standard deviation of PyTorch's output. `rounding` is how far PyTorch's own float32
    is from float64 there, over std; it is measured where `max_rel` is above the tolerance.
    """

    sizes: dict[str, int]
    max_abs: float
    max_rel: float
    rounding: float | None = None


class ParityReport(ClosedModel):
    """The differences of one graph at every size checked, and what it was allowed."""

    tolerance: float
    unit: Literal["std", "level"]
    sizes: tuple[SizeParity, ...]

    @property
    def difference(self) -> float:
        """The largest difference at any size, in `unit`s."""
        return max(self.difference_at(size) for size in self.sizes)

    def difference_at(self, size: SizeParity) -> float:
        """The difference at one size, in `unit`s."""
        return size.max_rel if self.unit == "std" else size.max_abs

    def allowed_at(self, size: SizeParity) -> float:
        """The tolerance or, where PyTorch's own rounding is larger than half of it, twice that:
        two computations that each are so far from the exact one may be so far apart."""
        return max(self.tolerance, 2 * (size.rounding or 0.0))


class GraphExport(ClosedModel):
    """`export.json`: which graph `model.onnx` is and how well it matches PyTorch.

    Args:
        sha256: `"sha256:…"` over `model.onnx` and, if there are, its external weights.
        source_digest: the same over what it was made from.
        precision: what it computes in; its parity is against float32 in any case.
        seconds, peak_bytes: one value per stage, `"export"` and `"parity"`; the bytes are the most
            resident memory of the exporting process, model included.
    """

    schema_version: Literal[2] = 2
    graph: str
    precision: GraphPrecision
    sha256: str
    source_digest: str
    opset: int
    parity: ParityReport
    num_parameters: int
    num_nodes: int
    versions: dict[str, str]
    seconds: dict[str, float]
    peak_bytes: dict[str, int]
    created_at: datetime


class DeltaDigest(ClosedModel):
    """Which delta a revision contains: its concept's name and the digest of its tensors."""

    concept: str
    tensors_digest: str


class RevisionRecord(ClosedModel):
    """`revision.json`: what a revision of a policy is and what it was made of.

    Args:
        kind: what its graph is. "edit": the last part of the text encoder, from states and
            attention mask to prompt embeddings. "encoder": a whole text encoder of tuned weights,
            from token ids and attention mask to prompt embeddings.
        edit_digest: `"sha256:…"` over the tensors of the edit or of the tuned encoder; None for the
            base's own policy, which edits nothing.
        graph_digest: that of the exported graph, `sha256` of its `export.json`.
    """

    schema_version: Literal[2] = 2
    policy: str
    revision: Number
    kind: RevisionKind
    concepts: tuple[Concept, ...]
    base: str
    base_digest: str
    edit_digest: str | None
    graph_digest: str
    deltas: tuple[DeltaDigest, ...]
    parity: ParityReport
    created_at: datetime


class AuditEvent(ClosedModel):
    """One line of `audit.jsonl`.

    Args:
        encoder_digest: `tensors_digest` of the encoder; None where the log does not know it.
        report_digest: of the bytes of the report.json that was judged; None if there was none.
        forced: whether the gate was overridden.
        reason: why, in the words of `who`, or of the command that had to act.
        unmet: what the gate found missing, one sentence each.
        page_digest: of the bytes of the report.html beside it; None where there was none.
        thresholds, loosened: what the policy demanded of the report, and a sentence for each limit
            that is looser than the default.
        recogniser, recogniser_digest: who looked at what the report judges.
        signed_with: the public key that report and deltas were checked with; None: none was given.
        outcome: what came of it.
    """

    at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    who: str = Field(default_factory=user_at_host)
    action: Literal["publish", "promote", "rollback", "retire", "reject", "repair"]
    policy: str
    revision: Number
    encoder_digest: str | None
    report_digest: str | None
    forced: bool = False
    reason: str | None = None
    unmet: tuple[str, ...] = ()
    page_digest: str | None = None
    thresholds: Thresholds | None = None
    loosened: tuple[str, ...] = ()
    recogniser: str | None = None
    recogniser_digest: str | None = None
    signed_with: str | None = None
    outcome: str = "done"


class Incident(ClosedModel):
    """One line of `incidents.jsonl`: what died in a served repository, and what came of it.

    Args:
        at: when it was noticed, in UTC.
        server: host and gRPC port of the server.
        kind: what died: one model process, or the server with all of them.
        model, version: of the model process; None for the server.
        outcome: whether the dead one has been replaced.
        seconds: from when it was noticed until the outcome.
        what: one sentence for a person.
    """

    at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    server: str
    kind: Literal["model", "server"]
    model: str | None = None
    version: int | None = None
    outcome: Literal["repaired", "failed"]
    seconds: float
    what: str


class PolicyState(ClosedModel):
    """The revisions of one policy.

    Args:
        active: the revision that new requests use; None until one is promoted.
        eligible: revisions that answered their probe, in ascending order.
        history: every revision that became active, oldest first.
        rolled_back: eligible revisions that a rollback left; they become active by name only.
        retired: revisions that were eligible once and never will be again.
    """

    active: Number | None = None
    eligible: tuple[Number, ...] = ()
    history: tuple[Number, ...] = ()
    rolled_back: tuple[Number, ...] = ()
    retired: tuple[Number, ...] = ()

    def with_eligible(self, revision: int) -> PolicyState:
        """`revision` may be promoted."""
        return self.model_copy(update={"eligible": _with(self.eligible, revision)})

    def with_active(self, revision: int) -> PolicyState:
        """New requests use `revision`, which is eligible; nothing changes if they do already."""
        if revision == self.active:
            return self
        update = {
            "active": revision,
            "history": (*self.history, revision),
            "rolled_back": _without(self.rolled_back, revision),
        }
        return self.model_copy(update=update)

    def with_rollback(self, revision: int) -> PolicyState:
        """New requests use `revision` again, and the one left is not chosen unless by name."""
        left = self.rolled_back if self.active is None else _with(self.rolled_back, self.active)
        return self.model_copy(update={"rolled_back": left}).with_active(revision)

    def with_retired(self, revision: int) -> PolicyState:
        """No new request uses `revision`, ever."""
        update = {
            "eligible": _without(self.eligible, revision),
            "rolled_back": _without(self.rolled_back, revision),
            "retired": _with(self.retired, revision),
        }
        return self.model_copy(update=update)


class Policies(ClosedModel):
    """`policies.json`, the pointer file.

    Args:
        default_policy: that of requests which name none.
        last_change: why the file is as it is; part of the file, so that a change and its event
            come to the disk together (see `unsee.repository.ledger`).
    """

    schema_version: Literal[2] = 2
    default_policy: PolicyName | None = None
    policies: dict[PolicyName, PolicyState] = Field(default_factory=dict)
    last_change: AuditEvent | None = None

    def state(self, policy: str) -> PolicyState:
        """The state of `policy`.

        Raises:
            InputError: there is no such policy.
        """
        if policy not in self.policies:
            known = ", ".join(sorted(self.policies)) or "none"
            raise InputError(f'there is no policy "{policy}" in this repository; it has: {known}')
        return self.policies[policy]

    def with_state(self, policy: str, state: PolicyState) -> Policies:
        """A copy in which `policy` has `state`."""
        return self.model_copy(update={"policies": {**self.policies, policy: state}})


def read_record(
    kind: type[AnyRecord], file: Path, remedy: str, error_type: type[InputError] = InputError
) -> AnyRecord:
    """The record in `file`.

    Args:
        remedy: what to do if there is none that can be used, such as "make it with: unsee export".

    Raises:
        InputError: the file is missing, cannot be read, is broken, or of another format.
    """
    try:
        return kind.model_validate_json(file.read_bytes())
    except FileNotFoundError as error:
        raise error_type(f"there is no {file}; {remedy}") from error
    except OSError as error:
        raise error_type(f"{file} cannot be read: {error.strerror}; {remedy}") from error
    except ValidationError as error:
        wrong = next(entry for entry in error.errors())
        if wrong["loc"] == ("schema_version",):
            known = kind.model_fields["schema_version"].default
            raise error_type(
                f"{file} has the format {wrong['input']}, and this version of Unsee reads "
                f"{known}; {remedy}"
            ) from error
        raise error_type(f"{file} is broken: {describe(error)}; {remedy}") from error


def _with(revisions: tuple[int, ...], revision: int) -> tuple[int, ...]:
    return tuple(sorted({*revisions, revision}))


def _without(revisions: tuple[int, ...], revision: int) -> tuple[int, ...]:
    return tuple(number for number in revisions if number != revision)
