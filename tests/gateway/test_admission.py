"""Whose turn it is: bounds, weighted fairness, estimates, leaving."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unsee.gateway.callers.admission import Admission, PlaceRequest
from unsee.gateway.callers.refusal import Refusal
from unsee.gateway.callers.settings import Limits, Tenant

pytestmark = pytest.mark.anyio


def tenant(name="a", **options):
    return Tenant(name=name, token_sha256="0" * 64, policies=("family",), **options)


def asked(who, *, work=1.0, seconds=None, remaining_s=100.0):
    return PlaceRequest(who, work, seconds, remaining_s)


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


class Crowd:
    """Requests that hold their place until they are told to leave; `order` is how they started."""

    def __init__(self, admission):
        self.admission = admission
        self.order = []
        self.tasks = {}
        self._leave = {}

    async def come(self, name, who, **wish):
        self._leave[name] = asyncio.Event()

        async def stay():
            async with self.admission.place(asked(who, **wish)):
                self.order.append(name)
                await self._leave[name].wait()

        self.tasks[name] = asyncio.create_task(stay())
        await settle()

    async def leave(self, name):
        self._leave[name].set()
        await self.tasks[name]
        await settle()


@pytest.fixture
def anyio_backend():
    return "asyncio"


def crowd(**limits):
    return Crowd(Admission(Limits(**limits)))


async def test_no_more_run_than_the_gateway_and_the_tenant_may():
    people = crowd(max_running=3)
    a, b = tenant("a", max_concurrent=2), tenant("b", max_concurrent=2)
    for name, who in (("a1", a), ("a2", a), ("a3", a), ("b1", b), ("b2", b)):
        await people.come(name, who)
    assert people.order == ["a1", "a2", "b1"]
    assert people.admission.load("a") == (2, 1)
    await people.leave("b1")
    assert people.order == ["a1", "a2", "b1", "b2"]
    await people.leave("a1")
    assert people.order[-1] == "a3"


async def test_a_full_queue_refuses_at_once_with_a_hint():
    people = crowd(max_running=1, max_waiting=1)
    await people.come("first", tenant())
    await people.come("second", tenant())
    with pytest.raises(Refusal, match="the service is busy") as caught:
        async with asyncio.timeout(5), people.admission.place(asked(tenant())):
            pass
    assert caught.value.status == "RESOURCE_EXHAUSTED"
    assert caught.value.retry_after_s >= 1
    assert people.admission.waiting == 1


async def test_one_tenant_cannot_fill_the_queue_for_the_others():
    people = crowd(max_running=1, max_waiting=10)
    greedy, modest = tenant("greedy", max_waiting=2), tenant("modest")
    for k in range(3):
        await people.come(f"g{k}", greedy)
    with pytest.raises(Refusal) as caught:
        async with people.admission.place(asked(greedy)):
            pass
    assert caught.value.reason == "tenant_full"
    await people.come("m", modest)
    await people.leave("g0")
    assert people.order == ["g0", "m"]


async def test_shares_follow_the_weights():
    people = crowd(max_running=1, max_waiting=100)
    heavy = tenant("heavy", weight=3, max_waiting=50)
    light = tenant("light", weight=1, max_waiting=50)
    await people.come("start", tenant("other"))
    for k in range(40):
        await people.come(f"h{k}", heavy)
        await people.come(f"l{k}", light)
    await people.leave("start")
    for _ in range(39):
        await people.leave(people.order[-1])
    first = [name[0] for name in people.order[1:41]]
    assert (first.count("h"), first.count("l")) == (30, 10)


async def test_big_clips_count_for_what_they_are():
    people = crowd(max_running=1, max_waiting=100)
    big, small = tenant("big", max_waiting=50), tenant("small", max_waiting=50)
    await people.come("start", tenant("other"))
    for k in range(20):
        await people.come(f"b{k}", big, work=4.0)
        await people.come(f"s{k}", small, work=1.0)
    await people.leave("start")
    for _ in range(19):
        await people.leave(people.order[-1])
    first = [name[0] for name in people.order[1:21]]
    assert first.count("s") == 4 * first.count("b")


async def test_an_idle_tenant_saves_up_no_turns():
    people = crowd(max_running=1, max_waiting=100)
    busy, late = tenant("busy", max_waiting=50), tenant("late", max_waiting=50)
    for k in range(20):
        await people.come(f"b{k}", busy)
    for k in range(10):
        await people.leave(f"b{k}")
    for k in range(10):
        await people.come(f"l{k}", late)
    for _ in range(8):
        await people.leave(people.order[-1])
    assert 3 <= sum(name.startswith("l") for name in people.order) <= 5


async def test_who_leaves_the_queue_holds_nothing():
    people = crowd(max_running=1)
    for name in ("first", "second", "third"):
        await people.come(name, tenant())
    people.tasks["second"].cancel()
    await settle()
    assert people.admission.waiting == 1
    await people.leave("first")
    assert people.order == ["first", "third"]
    await people.leave("third")
    assert (people.admission.running, people.admission.waiting) == (0, 0)


@pytest.mark.parametrize(
    ("remaining_s", "status", "reason"),
    [(5.0, "DEADLINE_EXCEEDED", "deadline"), (15.0, "RESOURCE_EXHAUSTED", "wait")],
)
async def test_a_deadline_that_cannot_be_met_is_refused_at_once(remaining_s, status, reason):
    people = crowd(max_running=1)
    await people.come("running", tenant(), seconds=20.0)
    with pytest.raises(Refusal) as caught:
        async with people.admission.place(asked(tenant(), seconds=10.0, remaining_s=remaining_s)):
            pass
    assert (caught.value.status, caught.value.reason) == (status, reason)
    assert (caught.value.retry_after_s is not None) == (status == "RESOURCE_EXHAUSTED")


@pytest.mark.parametrize(("max_running", "reason"), [(1, "wait"), (2, "tenant_full")])
async def test_a_turn_that_comes_too_late_is_for_want_of_room(max_running, reason):
    people = crowd(max_running=max_running)
    mine = tenant(max_concurrent=1)
    await people.come("running", mine, seconds=20.0)
    with pytest.raises(Refusal, match="would be ready in about") as caught:
        async with people.admission.place(asked(mine, seconds=10.0, remaining_s=15.0)):
            pass
    assert caught.value.reason == reason
    with pytest.raises(Refusal, match="no place became free within") as caught:
        async with people.admission.place(asked(mine, remaining_s=0.01)):
            pass
    assert (caught.value.status, caught.value.reason) == ("DEADLINE_EXCEEDED", reason)
    assert people.admission.load("a") == (1, 0)


async def test_an_idle_gateway_tries_whatever_it_once_measured():
    people = crowd(max_running=1)
    await people.come("one", tenant(), seconds=50.0, remaining_s=1.0)
    assert people.order == ["one"]


async def test_draining_refuses_those_who_come_and_those_who_wait():
    people = crowd(max_running=1)
    await people.come("running", tenant())
    await people.come("waiting", tenant())
    people.admission.close()
    await settle()
    with pytest.raises(Refusal) as caught:
        await people.tasks["waiting"]
    assert caught.value.reason == "draining"
    with pytest.raises(Refusal):
        async with people.admission.place(asked(tenant())):
            pass
    await people.leave("running")
    assert people.admission.running == 0


EVENTS = st.lists(
    st.tuples(st.sampled_from(["come", "leave", "cancel"]), st.integers(0, 2), st.integers(0, 5)),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(events=EVENTS, max_running=st.integers(1, 3), max_waiting=st.integers(0, 4))
def test_whatever_happens_places_are_neither_lost_nor_invented(events, max_running, max_waiting):
    async def story():
        tenants = [
            tenant(name, max_concurrent=k + 1, max_waiting=2, weight=k + 1)
            for k, name in enumerate("abc")
        ]
        people = crowd(max_running=max_running, max_waiting=max_waiting)
        for number, (what, who, which) in enumerate(events):
            alive = [name for name, task in people.tasks.items() if not task.done()]
            if what == "come":
                await people.come(str(number), tenants[who])
            elif alive and what == "cancel":
                people.tasks[alive[which % len(alive)]].cancel()
                await settle()
            elif alive:
                people._leave[alive[which % len(alive)]].set()
                await settle()
            check(people.admission, tenants, max_running, max_waiting)
        for task in people.tasks.values():
            task.cancel()
        await asyncio.gather(*people.tasks.values(), return_exceptions=True)
        assert (people.admission.running, people.admission.waiting) == (0, 0)

    def check(admission, tenants, max_running, max_waiting):
        loads = [admission.load(t.name) for t in tenants]
        assert admission.running == sum(r for r, _ in loads) <= max_running
        assert admission.waiting == sum(w for _, w in loads) <= max_waiting
        for who, (running, waiting) in zip(tenants, loads, strict=True):
            assert 0 <= running <= who.max_concurrent
            assert 0 <= waiting <= who.max_waiting
            if waiting:  # nobody waits while a place is free for it
                assert running == who.max_concurrent or admission.running == max_running

    asyncio.run(story())
