"""What a tenant may ask for: its policies, its default, revisions by number. Knows no transport."""

from __future__ import annotations

from unsee.gateway.callers.refusal import Refusal, quoted
from unsee.gateway.callers.request import ClipRequest
from unsee.gateway.callers.settings import Tenant


def permitted(tenant: Tenant, request: ClipRequest) -> ClipRequest:
    """`request` with its policy filled in: the model server never chooses one.

    Raises:
        Refusal: PERMISSION_DENIED, or INVALID_ARGUMENT if the tenant must name a policy.
    """
    policy = request.policy if request.policy is not None else tenant.policy_by_default
    if policy is None and tenant.policies:
        names = ", ".join(tenant.policies)
        raise Refusal("INVALID_ARGUMENT", "request", f"name a policy; this caller may use {names}")
    policy = check_policy(tenant, policy)
    if request.revision is not None and not tenant.may_pin_revision:
        raise _denied("this caller may not choose a revision; leave it out to get the active one")
    return request.model_copy(update={"policy": policy})


def check_policy(tenant: Tenant, policy: str | None) -> str:
    """`policy`, if the tenant may use it; raises Refusal (PERMISSION_DENIED) if not."""
    if policy is None or policy not in tenant.policies:
        names = ", ".join(tenant.policies) or "none"
        asked = "a clip" if policy is None else f"the policy {quoted(policy)}"
        raise _denied(f"this caller may not ask for {asked}; its policies: {names}")
    return policy


def require_operator(tenant: Tenant) -> None:
    """Raises Refusal (PERMISSION_DENIED) unless the tenant may see the gateway's own state."""
    if not tenant.operator:
        raise _denied("only an operator may read this")


def _denied(message: str) -> Refusal:
    return Refusal("PERMISSION_DENIED", "permission", message)
