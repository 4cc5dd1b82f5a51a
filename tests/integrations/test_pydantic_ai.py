"""An agent on `ConduitModel`: every request is routed and learned from, and nothing is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.messages import (
    BinaryContent,
    FilePart,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    NativeToolCallPart,
    NativeToolReturnPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

from conduit.core.errors import AllModelsFailed, BudgetExceeded, ProviderError, StorageUnavailable
from conduit.core.models import Feedback, ImplicitFeedback, ModelArm, Query, RoutingDecision
from conduit.engines.budget import Budget
from conduit.engines.executor import PydanticAIExecutor
from conduit.engines.router import Router
from conduit.integrations.pydantic_ai import METADATA, ConduitModel, messages_for
from conduit.service import Service
from conduit.testing.local_provider import Fault, FaultKind, LocalProvider, SimulatedModel

MODELS = (
    SimulatedModel("one", 1.0, 4.0, calls_tools=True),
    SimulatedModel("two", 1.0, 4.0, calls_tools=True),
)


class City(BaseModel):
    """A form of answer."""

    answer: str


@dataclass
class Watched:
    """A router, and what it was asked and taught."""

    inner: Router
    queries: list[Query] = field(default_factory=list)
    decisions: list[RoutingDecision] = field(default_factory=list)
    taught: list[tuple[Any, ImplicitFeedback, str | None]] = field(default_factory=list)
    broken: bool = False

    async def route(self, query: Query, *, unavailable: Any = None) -> RoutingDecision:
        """Note the query."""
        self.queries.append(query)
        self.decisions.append(await self.inner.route(query, unavailable=unavailable))
        return self.decisions[-1]

    def arm(self, model_id: str) -> ModelArm:
        """Return the router's."""
        return self.inner.arm(model_id)

    def served_by(self, decision: RoutingDecision, model: str) -> None:
        """Tell the router."""
        self.inner.served_by(decision, model)

    async def feedback(self, decision: Any, feedback: Any, *, model: str | None = None) -> Any:
        """Note the feedback."""
        if self.broken:
            raise StorageUnavailable("no")
        self.taught.append((decision, feedback, model))
        return await self.inner.feedback(decision, feedback, model=model)


@pytest.fixture
async def provider() -> AsyncIterator[LocalProvider]:
    """Give the test two models over HTTP."""
    async with LocalProvider(MODELS) as provider:
        yield provider


@pytest.fixture
async def watched(provider: LocalProvider) -> AsyncIterator[Watched]:
    """Give the test a router over them."""
    arms = [
        ModelArm(
            m.name, base_url=provider.base_url, input_usd_per_mtok=1.0, output_usd_per_mtok=4.0
        )
        for m in provider.models
    ]
    async with Router(models=arms, seed=1) as router:
        yield Watched(router)


@pytest.fixture
async def model(watched: Watched) -> AsyncIterator[ConduitModel]:
    """Give the test the model over that router."""
    model = ConduitModel(watched, timeout_s=10.0)
    yield model
    await model.close()


def signature(message: ModelMessage) -> dict[str, str]:
    """Return who gave a response."""
    assert isinstance(message, ModelResponse)
    assert message.metadata is not None
    return dict(message.metadata[METADATA])


def responses(messages: Sequence[ModelMessage]) -> list[ModelResponse]:
    """Return the responses of a conversation."""
    return [message for message in messages if isinstance(message, ModelResponse)]


async def test_an_agent_runs_on_it(model: ConduitModel, watched: Watched) -> None:
    """A plain agent gets its text, signed with the model and the decision."""
    result = await Agent(model).run("Say [[marker:hello]]")
    assert "[[marker:hello]]" in result.output
    signed = signature(result.response)
    assert signed["model"] in ("one", "two")
    assert signed["decision_id"] == watched.decisions[0].id
    assert watched.queries[0].text == "Say [[marker:hello]]"


async def test_each_request_teaches_its_model(model: ConduitModel, watched: Watched) -> None:
    """Cost, tokens, latency and that it answered reach the learner."""
    result = await Agent(model).run("Say something")
    ((decision, feedback, arm),) = watched.taught
    assert (decision, arm) == (watched.decisions[0], signature(result.response)["model"])
    assert (feedback.signal, feedback.quality) == ("answered", 1.0)
    assert feedback.cost_usd is not None
    assert feedback.cost_usd > 0.0
    assert feedback.latency_s is not None
    assert watched.inner.learner.applied == 1


@pytest.mark.parametrize("streamed", [False, True])
async def test_tools_and_typed_output_stay_intact(
    model: ConduitModel, watched: Watched, streamed: bool
) -> None:
    """The model calls the tool, then answers in the form; each step is routed."""
    called: list[str] = []
    agent = Agent(model, output_type=City)

    @agent.tool_plain
    def look_up(query: str) -> str:
        """Look something up."""
        called.append(query)
        return "Paris"

    if streamed:
        async with agent.run_stream("What is the capital of France?") as run:
            output = await run.get_output()
            messages = run.all_messages()
    else:
        result = await agent.run("What is the capital of France?")
        output, messages = result.output, result.all_messages()
    assert isinstance(output, City)
    assert "Paris" in output.answer
    assert len(called) == 1
    assert len(watched.decisions) == len(watched.taught) == 2
    assert [signature(r)["decision_id"] for r in responses(messages)] == [
        decision.id for decision in watched.decisions
    ]


async def test_text_streams_in_pieces(model: ConduitModel, watched: Watched) -> None:
    """Deltas come as they come, and the end of the stream teaches."""
    async with Agent(model).run_stream("How much is 872 * 54?") as run:
        pieces = [piece async for piece in run.stream_text(delta=True, debounce_by=None)]
    assert len(pieces) > 1
    assert "".join(pieces) == "47088"
    assert [feedback.signal for _, feedback, _ in watched.taught] == ["answered"]
    assert signature(run.response)["model"] in ("one", "two")


async def test_history_goes_on(model: ConduitModel, watched: Watched) -> None:
    """A second run knows the first, and its routing knows the model and the cached prefix."""
    agent = Agent(model)
    first = await agent.run("one [[marker:a]]")
    second = await agent.run("two [[marker:b]]", message_history=first.all_messages())
    assert "[[marker:b]]" in second.output
    query = watched.queries[-1]
    assert query.text == "two [[marker:b]]"
    assert query.previous_model == signature(first.response)["model"]
    assert query.context is not None
    assert query.context["prefix_tokens"] == first.usage.input_tokens + first.usage.output_tokens


async def test_a_run_stays_on_its_model(model: ConduitModel, watched: Watched) -> None:
    """Between models that promise the same, no run changes hands in the middle."""
    agent = Agent(model, output_type=City)

    @agent.tool_plain
    def look_up(query: str) -> str:
        """Look something up."""
        return "Paris"

    used: Counter[str] = Counter()
    for i in range(12):
        result = await agent.run(f"What is the capital of France? {i}")
        models = {signature(r)["model"] for r in responses(result.all_messages())}
        assert len(models) == 1
        used.update(models)
    assert len(watched.decisions) == 24


async def test_a_run_switches_when_it_pays(model: ConduitModel, watched: Watched) -> None:
    """A model that has been learned to be useless is left, history or not."""
    agent = Agent(model)
    first = await agent.run("one")
    stayed = signature(first.response)["model"]
    for i in range(80):
        decision = await watched.inner.route(Query(text=f"about {i}"))
        for name in ("one", "two"):
            bad = ImplicitFeedback(signal="test", quality=float(name != stayed), weight=1.0)
            await watched.inner.feedback(decision, bad, model=name)
    second = await agent.run("two", message_history=first.all_messages())
    assert signature(second.response)["model"] != stayed


# Failures


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "kind", [FaultKind.SERVER_ERROR, FaultKind.CUT_BEFORE_FIRST_TOKEN, FaultKind.HANG]
)
async def test_a_failing_model_is_replaced(
    provider: LocalProvider, watched: Watched, kind: FaultKind, streamed: bool
) -> None:
    """The run goes on with the next candidate, and the failure teaches its own model."""
    # What is left of it when one model hangs is for the other, on a busy machine too.
    model = ConduitModel(watched, timeout_s=3.0 if kind is FaultKind.HANG else 30.0)
    agent = Agent(model)
    provider.set_fault("one", Fault(kind))
    for _ in range(4):
        if streamed:
            async with agent.run_stream("How much is 872 * 54?") as run:
                assert await run.get_output() == "47088"
        else:
            assert (await agent.run("How much is 872 * 54?")).output == "47088"
    failures = [(f.quality, m) for _, f, m in watched.taught if f.error]
    assert set(failures) <= {(0.0, "one")}
    assert provider.calls_by_model.get("one", 0) <= 3
    await model.close()


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_rating_is_of_the_model_that_replaced(
    provider: LocalProvider, watched: Watched, model: ConduitModel, streamed: bool
) -> None:
    """Who rates the decision of a response rates the model that gave it."""
    provider.set_fault("one", Fault(FaultKind.SERVER_ERROR))
    agent = Agent(model)
    for _ in range(6):
        if streamed:
            async with agent.run_stream("How much is 872 * 54?") as run:
                await run.get_output()
        else:
            await agent.run("How much is 872 * 54?")
        await watched.inner.feedback(watched.decisions[-1].id, Feedback(quality_score=1.0))
    rows = [entry.row for entry in await watched.inner.store.tail(watched.inner.name)]
    assert "one" in {decision.selected_model for decision in watched.decisions}
    assert [row.model for row in rows if row.kind == "explicit"] == ["two"] * 6


async def test_when_all_fail_the_attempts_are_listed(
    provider: LocalProvider, model: ConduitModel
) -> None:
    """The agent raises `AllModelsFailed`, with every attempt."""
    for name in ("one", "two"):
        provider.set_fault(name, Fault(FaultKind.SERVER_ERROR))
    with pytest.raises(AllModelsFailed) as caught:
        await Agent(model).run("Say something")
    assert {attempt.model for attempt in caught.value.attempts} == {"one", "two"}


async def test_a_stream_that_breaks_late_raises(
    provider: LocalProvider, model: ConduitModel, watched: Watched
) -> None:
    """After the first token there is no way back: the error says what came."""
    for name in ("one", "two"):
        provider.set_fault(name, Fault(FaultKind.CUT_AFTER_FIRST_TOKEN, cut="end"))

    async def read() -> None:
        async with Agent(model).run_stream("How much is 872 * 54?") as run:
            await run.get_output()

    with pytest.raises(ProviderError) as caught:
        await read()
    assert caught.value.partial == "4708"
    assert [feedback.error for _, feedback, _ in watched.taught] == ["malformed"]


async def test_leaving_a_stream_teaches_nothing(model: ConduitModel, watched: Watched) -> None:
    """A reader who has had enough is no failure of the model."""
    async with Agent(model).run_stream("How much is 872 * 54?") as run:
        async for _piece in run.stream_text(delta=True, debounce_by=None):
            break
    assert watched.taught == []


async def test_an_answer_that_has_to_be_mended_counts_against_its_model(
    model: ConduitModel, watched: Watched
) -> None:
    """When the agent asks again, the response that it refused is learned to be bad."""
    agent = Agent(model, retries={"output": 2})
    refused: list[str] = []

    @agent.output_validator
    def never_at_once(output: str) -> str:
        if not refused:
            refused.append(output)
            raise ModelRetry("not like that")
        return output

    result = await agent.run("Say something")
    first = signature(responses(result.all_messages())[0])
    bad = [t for t in watched.taught if t[1].signal == "invalid_output"]
    assert [(d, f.quality, m) for d, f, m in bad] == [(first["decision_id"], 0.0, first["model"])]


async def test_an_answer_is_not_lost_when_the_log_is(model: ConduitModel, watched: Watched) -> None:
    """Feedback that cannot be kept is counted, and the run goes on."""
    watched.broken = True
    assert (await Agent(model).run("Say something")).output
    assert model.unlearned == 1


# What reaches which provider

THOUGHTS = ModelResponse(
    parts=[
        ThinkingPart("secret thought", signature="sig", provider_name="anthropic", id="t1"),
        NativeToolCallPart("web_search", {"q": "x"}, provider_name="anthropic"),
        NativeToolReturnPart("web_search", "found", tool_call_id="n", provider_name="anthropic"),
        TextPart("spoken", id="msg_1", provider_name="anthropic", provider_details={"a": 1}),
        ToolCallPart("look_up", {"query": "x"}, tool_call_id="c1", id="fc_1"),
        FilePart(BinaryContent(b"x", media_type="image/png"), id="f1"),
    ],
    provider_name="anthropic",
    provider_response_id="resp_1",
    provider_details={"b": 2},
    model_name="claude",
)
RETURN = ModelRequest(parts=[ToolReturnPart("look_up", "42", tool_call_id="c1")])


def signed(response: ModelResponse, model_id: str) -> ModelResponse:
    """Return a response as a model of ours gave it."""
    return ModelResponse(
        parts=response.parts,
        provider_name=response.provider_name,
        metadata={METADATA: {"model": model_id, "decision_id": "d"}},
    )


@pytest.mark.parametrize(
    ("response", "model_id", "system"),
    [
        (THOUGHTS, "openai:gpt", "openai"),
        (signed(THOUGHTS, "anthropic:claude"), "openai:gpt", "openai"),
        (signed(THOUGHTS, "anthropic:claude"), "anthropic:other", "anthropic"),
    ],
)
def test_thoughts_do_not_reach_another_model(
    response: ModelResponse, model_id: str, system: str
) -> None:
    """What was said and called is kept; thoughts, own tools, ids and signatures are not."""
    prompt = ModelRequest(parts=[UserPromptPart("?")])
    first, second, third = messages_for([prompt, response, RETURN], model_id, system)
    assert (first, third) == (prompt, RETURN)
    assert [type(part) for part in second.parts] == [TextPart, ToolCallPart, FilePart]
    shown = repr(second)
    for secret in ("secret thought", "sig", "msg_1", "fc_1", "anthropic", "resp_1", "web_search"):
        assert secret not in shown
    assert second.parts[1].tool_call_id == "c1"


@pytest.mark.parametrize(
    ("response", "model_id"),
    [(THOUGHTS, "anthropic:claude"), (signed(THOUGHTS, "anthropic:claude"), "anthropic:claude")],
)
def test_a_model_gets_its_own_thoughts_back(response: ModelResponse, model_id: str) -> None:
    """Thinking models need what they thought before, signatures and all."""
    assert messages_for([response, RETURN], model_id, "anthropic") == [response, RETURN]


def test_a_response_of_thoughts_alone_is_left_out() -> None:
    """Nothing is better than an empty message."""
    response = ModelResponse(parts=[ThinkingPart("hm")], provider_name="anthropic")
    assert messages_for([response, RETURN], "openai:gpt", "openai") == [RETURN]


async def test_thoughts_stay_with_their_model_through_a_whole_run() -> None:
    """Over a run that changes models, no request holds another model's thoughts."""
    seen: dict[str, list[ModelMessage]] = {}
    down: set[str] = set()

    def thinking(name: str) -> Callable[[list[ModelMessage], AgentInfo], ModelResponse]:
        def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
            if name in down:
                raise ConnectionError
            seen[name] = messages
            thought = ThinkingPart(f"thought of {name}", provider_name="function")
            if len(responses(messages)) < 2:
                down.add(name)  # so that the next request goes to the other model
                return ModelResponse(parts=[thought, ToolCallPart("step", {})])
            return ModelResponse(parts=[thought, TextPart("done")])

        return answer

    arms = [ModelArm(name, model=FunctionModel(thinking(name))) for name in ("one", "two")]
    async with Router(models=arms, seed=1) as router:
        agent = Agent(ConduitModel(router))

        @agent.tool_plain
        def step() -> str:
            """Go on."""
            down.difference_update({"one", "two"} - set(list(seen)[-1:]))
            return "go on"

        result = await agent.run("Think")
    used = [signature(r)["model"] for r in responses(result.all_messages())]
    assert result.output == "done"
    assert len(set(used)) == 2
    for name, messages in seen.items():
        thoughts = [
            part.content
            for response in responses(messages)
            for part in response.parts
            if isinstance(part, ThinkingPart)
        ]
        assert set(thoughts) <= {f"thought of {name}"}


async def test_a_services_limits_and_history_hold_for_agents_too(provider: LocalProvider) -> None:
    """An agent over a service is counted, kept and stopped like the service's own calls."""
    arms = [
        ModelArm(
            m.name, base_url=provider.base_url, input_usd_per_mtok=1.0, output_usd_per_mtok=4.0
        )
        for m in provider.models
    ]
    router = Router(models=arms, seed=1, environ={})
    # The worst case is 4,096 tokens at $4 a million: one such call fits, two beside it do not.
    service = Service(router, PydanticAIExecutor(), budgets=[Budget(usd=0.017, per="total")])
    async with service:
        agent = Agent(ConduitModel(service))
        first = await agent.run("hello")
        with pytest.raises(BudgetExceeded):
            await agent.run("hello", model_settings={"max_tokens": 5000})
        async with agent.run_stream("hello again", model_settings={"max_tokens": 5}) as streamed:
            assert await streamed.get_output()
        stats = await service.get_stats()
        await service.flush()
        kept = await router.store.stats(router.name)
    assert first.output
    assert (stats.requests, stats.answered, stats.failed) == (3, 2, 1)
    assert stats.budget_left_usd == pytest.approx(0.017 - kept.cost_usd)
    assert (kept.responses, len(provider.requests)) == (2, 2)
    assert router.get_stats().outcomes == 2
