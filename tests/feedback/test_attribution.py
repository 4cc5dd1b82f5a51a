"""What is said of a decision is about the model whose answer the caller got."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from conduit.core.errors import AllModelsFailed, ProviderError, StorageUnavailable
from conduit.core.models import Feedback, ModelArm, Query, RoutingDecision, RoutingResult
from conduit.engines import decided
from conduit.engines.executor import FunctionExecutor
from conduit.engines.executor.base import Answer, AnswerStream, Call, Pieces
from conduit.engines.router import Router
from conduit.service import Service
from conduit.storage.base import MemoryStore, ResponseRecord, Store
from conduit.storage.database import open_store
from tests.storage.conftest import url

__all__ = ["url"]

MODELS = [ModelArm("acme:a", quality=0.9), ModelArm("acme:b", quality=0.2)]
DEAR = [
    ModelArm(name, input_usd_per_mtok=10.0, output_usd_per_mtok=10.0, output_tokens=100,
             quality=quality)
    for name, quality in (("acme:a", 0.9), ("acme:b", 0.3))
]  # fmt: skip
Pair = tuple[Service, Service]
NAMES = ("result", "id", "decision", "decision id", "receipt")


def named(result: RoutingResult[object], how: str) -> RoutingResult[object] | RoutingDecision | str:
    """Return one of the names under which an answer can be rated."""
    return {
        "result": result,
        "id": result.id,
        "decision": result.decision,
        "decision id": result.decision.id,
        "receipt": result.decision.receipt,
    }[how]


def only_b(model: str, prompt: str) -> str:
    """Answer as one of the two models: the first is down."""
    if model == "acme:a":
        raise RuntimeError("down")
    return "An answer of many words."


@asynccontextmanager
async def serving(
    store: Store | None = None, arms: list[ModelArm] = MODELS
) -> AsyncIterator[Service]:
    """Give a service whose better model is down; its secret is that of every other."""
    router = Router(arms, seed=1, environ={}, store=store, secret="s", floor=0.0)
    async with Service(router, FunctionExecutor(only_b)) as service:
        yield service


@pytest.fixture
async def pair(url: str) -> AsyncIterator[Pair]:
    """Give two services on one database, each with a connection of its own."""
    async with AsyncExitStack() as stack:
        one, two = await open_store(url), await open_store(url)
        stack.push_async_callback(one.close)
        stack.push_async_callback(two.close)
        service = await stack.enter_async_context(serving(one))
        yield service, await stack.enter_async_context(serving(two))


async def rated_model(router: Router) -> list[str]:
    """Return the models of the opinions in the log."""
    return [e.row.model for e in await router.store.tail(router.name) if e.row.kind == "explicit"]


async def fallen_back(
    service: Service, text: str = "How tall is Mont Blanc?"
) -> RoutingResult[object]:
    """Return an answer that another model gave than the one chosen."""
    result: RoutingResult[object] = await service.complete(text)
    assert (result.decision.selected_model, result.model) == ("acme:a", "acme:b")
    return result


@pytest.mark.parametrize("how", NAMES)
async def test_a_rating_is_of_the_model_that_answered(how: str) -> None:
    """By whatever name an answer is rated after a fallback, the model that gave it is."""
    async with serving() as service:
        result = await fallen_back(service)
        await service.submit_feedback(named(result, how), quality_score=1.0)
        assert await rated_model(service.router) == ["acme:b"]


async def test_a_router_rates_the_model_that_answered_in_a_thread() -> None:
    """What is said at once, without a service, is about the model that answered, too."""
    async with serving() as service:
        result = await fallen_back(service)
        for target in (result.decision, result.decision.id):
            service.router.feedback_sync(target, Feedback(quality_score=1.0))
        assert await rated_model(service.router) == ["acme:b"] * 2


async def test_a_signal_is_of_the_model_that_answered() -> None:
    """What the application saw of a decision's answer is evidence about who gave it."""
    async with serving() as service:
        result = await fallen_back(service)
        await service.collector.on_copy(result.decision)
        entries = await service.router.store.tail(service.router.name)
        assert [e.row.model for e in entries if e.row.kind == "copy"] == ["acme:b"]


async def test_another_process_knows_who_answered(pair: Pair) -> None:
    """Where the answer is found in the database, the rating is of the model that gave it."""
    service, elsewhere = pair
    result = await fallen_back(service)
    targets = [named(result, how) for how in NAMES[1:]]
    await service.flush()
    for target in targets:
        await elsewhere.submit_feedback(target, quality_score=1.0)
    assert await rated_model(elsewhere.router) == ["acme:b"] * 4


async def test_an_early_receipt_knows_who_answered_later(pair: Pair) -> None:
    """A receipt of before the answer finds the answer in the database."""
    service, elsewhere = pair
    async with service.stream("How tall is Mont Blanc?") as stream:
        early = stream.decision
        record = decided.record_of(early, service.router.decision_ttl_s)
        receipt = decided.receipts.sign(record, decided.receipts.secret_bytes("s"))
        async for _ in stream:
            pass
    await service.flush()
    await elsewhere.submit_feedback(receipt, quality_score=1.0)
    assert await rated_model(elsewhere.router) == ["acme:b"]


async def test_a_receipt_tells_who_answered_without_a_database() -> None:
    """Two processes that share nothing but the secret agree on whose answer was rated."""
    async with serving() as service, serving() as elsewhere:
        receipt = (await fallen_back(service)).decision.receipt
        await elsewhere.submit_feedback(receipt, quality_score=1.0)
        assert await rated_model(elsewhere.router) == ["acme:b"]


@pytest.mark.parametrize("how", NAMES)
async def test_a_decision_of_long_ago_is_rated_alike(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no longer at hand is in the store."""
    monkeypatch.setattr(decided, "REMEMBERED", 1)
    async with serving() as service:
        target = named(await fallen_back(service), how)
        await service.flush()
        await service.router.route("another")
        await service.submit_feedback(target, quality_score=1.0)
        assert await rated_model(service.router) == ["acme:b"]


async def test_a_decision_that_was_only_routed_is_of_its_choice(pair: Pair) -> None:
    """Where no answer passed through here, the rating is of the chosen model, in any process."""
    service, elsewhere = pair
    for rater in (service, elsewhere):
        for how in ("decision", "id", "receipt"):
            decision = await service.router.route("How tall is Mont Blanc?")
            await service.router.flush()
            target = {"decision": decision, "id": decision.id, "receipt": decision.receipt}[how]
            await rater.submit_feedback(target, quality_score=1.0)
    assert await rated_model(service.router) == ["acme:a"] * 6


async def test_while_no_database_can_tell_the_choice_is_rated() -> None:
    """A receipt is taken during an outage, though nobody can say who answered it."""

    class Away(MemoryStore):
        async def answer_to(self, router: str, decision_id: str) -> ResponseRecord | None:
            raise StorageUnavailable("away")

    async with serving() as service, serving(Away()) as elsewhere:
        receipt = (await service.router.route("How tall is Mont Blanc?")).receipt
        await elsewhere.submit_feedback(receipt, quality_score=1.0)
        assert await rated_model(elsewhere.router) == ["acme:a"]


async def test_where_all_failed_the_last_that_was_asked_is_rated() -> None:
    """A rating of a request without an answer is about the failure that the caller saw."""
    router = Router(MODELS, seed=1, environ={}, floor=0.0)
    made: list[RoutingDecision] = []

    def failing(model: str, prompt: str) -> str:
        raise RuntimeError("down")

    async with Service(router, FunctionExecutor(failing)) as service:
        route = router.route

        async def routed(*given: object, **options: object) -> RoutingDecision:
            made.append(await route(*given, **options))  # type: ignore[arg-type]
            return made[-1]

        router.route = routed  # type: ignore[method-assign,assignment]
        with pytest.raises(AllModelsFailed):
            await service.complete("How tall is Mont Blanc?")
        await service.submit_feedback(made[0], quality_score=0.0)
        assert made[0].selected_model == "acme:a"
        assert await rated_model(router) == ["acme:b"]


# streams -----------------------------------------------------------------------------------------


async def test_a_stream_can_be_rated_from_its_first_piece(pair: Pair) -> None:
    """In the middle, after a stop and in another process, by any name, and about its own model."""
    service, elsewhere = pair
    async with service.stream("How tall is Mont Blanc?") as stream:
        async for _ in stream:
            break
        decision = stream.decision
        names = (stream.id, decision, decision.id, decision.receipt)
        for name in names:
            await service.submit_feedback(name, quality_score=0.0)
    for name in names:
        await service.submit_feedback(name, quality_score=0.1)
        await service.collector.on_abandon(name, shown=0.1, waited_s=1.0)
    await service.flush()
    for name in names:
        await elsewhere.submit_feedback(name, quality_score=0.2)
    assert await rated_model(elsewhere.router) == ["acme:b"] * 12


class Breaking(FunctionExecutor):
    """Streams one piece of the second model's answer, and breaks."""

    @asynccontextmanager
    async def stream(self, arm: ModelArm, call: Call) -> AsyncIterator[AnswerStream]:
        """Give one piece."""

        async def pieces() -> AsyncIterator[object]:
            yield "An answer"
            raise ProviderError("the connection broke")
            yield Answer(data="", response=None)  # type: ignore[arg-type]

        if arm.id == "acme:a":
            raise ProviderError("down")
        yield Pieces(pieces())


async def test_a_stream_that_breaks_is_rated_by_its_decision(pair: Pair) -> None:
    """Who read half an answer rates the model that gave it, in another process, too."""
    service, elsewhere = pair
    service.executor = Breaking(only_b)
    async with service.stream("How tall is Mont Blanc?") as stream:
        assert await anext(aiter(stream)) == "An answer"
        with pytest.raises(ProviderError):
            await anext(aiter(stream))
    await service.flush()
    for name in (stream.id, stream.decision.id):
        await elsewhere.submit_feedback(name, quality_score=0.0)
    assert await rated_model(elsewhere.router) == ["acme:b"] * 2


# conversations -----------------------------------------------------------------------------------


async def cheapest(service: Service) -> set[str]:
    """Return the models that the next turn of the conversation is cheaper with than elsewhere."""
    inside = await service.router.route(Query(text="And in French?", conversation_id="c"))
    outside = await service.router.route(Query(text="And in French?"))
    return {m for m, e in inside.estimates.items() if e.cost_usd != outside.estimates[m].cost_usd}


async def test_a_conversation_is_with_the_model_that_answered() -> None:
    """After a fallback, staying saves what the model that answered has in its cache."""
    async with serving(arms=DEAR) as service:
        await service.complete("word " * 2000, conversation_id="c")
        assert await cheapest(service) == {"acme:b"}


async def test_a_conversation_is_with_the_model_whose_stream_was_left() -> None:
    """A reader who stops has heard the model that was answering."""
    async with serving(arms=DEAR) as service:
        async with service.stream("word " * 2000, conversation_id="c") as stream:
            async for _ in stream:
                break
        assert await cheapest(service) == {"acme:b"}


@pytest.mark.parametrize("turns", [0, 1])
async def test_a_turn_that_nobody_answered_changes_no_conversation(turns: int) -> None:
    """Whoever answered before has the conversation still; where nobody did, nothing is saved."""
    down = False

    def answer(model: str, prompt: str) -> str:
        if down:
            raise RuntimeError("down")
        return only_b(model, prompt)

    router = Router(DEAR, seed=1, environ={}, floor=0.0)
    async with Service(router, FunctionExecutor(answer)) as service:
        for _ in range(turns):
            await service.complete("word " * 2000, conversation_id="c")
        down = True
        with pytest.raises(AllModelsFailed):
            await service.complete("word " * 2000, conversation_id="c")
        assert await cheapest(service) == ({"acme:b"} if turns else set())
