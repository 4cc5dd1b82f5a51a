"""What PydanticAI's executor passes through, counts, prices and shares."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import (
    Agent,
    AgentRunError,
    BinaryContent,
    ImageUrl,
    PromptedOutput,
    TextOutput,
)
from pydantic_ai.messages import (
    FilePart,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.toolsets import FunctionToolset
from pydantic_ai.usage import RequestUsage, UsageLimits

from conduit.core.errors import ExecutionError, InvalidInput, OutputInvalid, ProviderError
from conduit.core.models import ModelArm, Response
from conduit.engines.executor import readings
from conduit.engines.executor.base import Call
from conduit.engines.executor.pydantic_ai import PydanticAIExecutor, pydantic_ai_name
from conduit.testing.local_provider import Fault, FaultKind, LocalProvider
from tests.engines.executor.conftest import arm_of

Answerer = Callable[[list[ModelMessage], AgentInfo], ModelResponse]
USAGE = RequestUsage(input_tokens=1_000, output_tokens=100)


class Reply(BaseModel):
    """A form that can be missed."""

    answer: str


@pytest.fixture
async def executor() -> AsyncIterator[PydanticAIExecutor]:
    """Give the test its own executor."""
    executor = PydanticAIExecutor()
    yield executor
    await executor.close()


def played(answer: Answerer, model_id: str = "m", **arm: Any) -> ModelArm:
    """Return an arm whose model is a function."""
    return ModelArm(model_id, model=FunctionModel(answer), **arm)


def says(*texts: str, **response: Any) -> Answerer:
    """Return a model that says the texts in turn, the last one for ever."""
    said = iter(texts)
    last = [texts[-1]]

    def answer(_messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        text = next(said, last[0])
        parts = (
            [ToolCallPart(info.output_tools[0].name, text)]
            if info.output_tools
            else [TextPart(text)]
        )
        return ModelResponse(parts=parts, **{"usage": USAGE, **response})

    return answer


# Names


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ("gpt-4o-mini", "openai:gpt-4o-mini"),
        ("openai/gpt-4o-mini", "openai:gpt-4o-mini"),
        ("openai:gpt-4o-mini", "openai:gpt-4o-mini"),
        ("openai-chat:gpt-4o-mini", "openai-chat:gpt-4o-mini"),
        ("google-gla:gemini-2.5-flash", "google:gemini-2.5-flash"),
        ("gemini/gemini-2.5-flash", "google:gemini-2.5-flash"),
        ("openrouter:meta/llama:free", "openrouter:meta/llama:free"),
        ("groq/some-new-model", "groq:some-new-model"),
        ("mine", "mine"),
    ],
)
def test_names_are_pydantic_ais(written: str, named: str) -> None:
    """Bare known names and LiteLLM's spelling get their provider; PydanticAI's stay."""
    assert pydantic_ai_name(ModelArm(written)) == named


@pytest.mark.parametrize(
    ("model", "kind", "hint"),
    [
        ("openai:gpt-4o-mini", "auth", "OPENAI_API_KEY"),
        ("deepseek:deepseek-chat", "auth", "its key"),
        ("anthropic:claude-haiku-4-5", "not_installed", "conduit-router[anthropic]"),
        ("nobody:nothing", "not_found", "provider:model"),
        ("nothing", "not_found", "provider:model"),
    ],
)
async def test_a_model_that_cannot_be_asked_says_why(
    monkeypatch: pytest.MonkeyPatch,
    executor: PydanticAIExecutor,
    model: str,
    kind: str,
    hint: str,
) -> None:
    """A missing key, library or provider is a `ProviderError` with the way out."""
    monkeypatch.setitem(sys.modules, "anthropic", None)
    monkeypatch.delitem(sys.modules, "pydantic_ai.providers.anthropic", raising=False)
    with pytest.raises(ProviderError, match=hint.replace("[", r"\[")) as caught:
        await executor.execute(ModelArm(model), Call("?"))
    assert caught.value.kind == kind


def test_importing_the_executors_loads_no_vendor() -> None:
    """The names are there at once, the libraries when they are used."""
    code = (
        "import sys, conduit.engines.executor as e\n"
        "e.FunctionExecutor, e.Call, e.Executor\n"
        "print([n for n in ('pydantic_ai', 'litellm', 'openai') if n in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_no_call_waits_for_an_import() -> None:
    """What a first call needs is loaded when the executor is made: the time is the caller's."""
    code = """
import asyncio, sys
from conduit.core.models import ModelArm
from conduit.engines.executor.base import Call
from conduit.engines.executor.pydantic_ai import PydanticAIExecutor
from conduit.testing.local_provider import LocalProvider, SimulatedModel

async def main():
    async with LocalProvider([SimulatedModel("m", 1.0, 4.0)]) as provider:
        executor = PydanticAIExecutor()
        before = set(sys.modules)
        await executor.execute(ModelArm("m", base_url=provider.base_url), Call("hello"))
        new = {name.partition(".")[0] for name in set(sys.modules) - before}
        print(sorted(new - sys.stdlib_module_names))
        await executor.close()

asyncio.run(main())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "wrong", [{"result_type": TextOutput(lambda text: text)}, {"tools": [len, len]}]
)
async def test_what_no_model_can_be_asked_is_the_callers_mistake(
    executor: PydanticAIExecutor, wrong: dict[str, Any]
) -> None:
    """It is refused in PydanticAI's words, and no model has failed."""
    with pytest.raises(InvalidInput, match="cannot be asked for"):
        await executor.execute(played(says("x")), Call("hello", **wrong))


# What goes in


async def test_everything_of_a_call_reaches_the_model(executor: PydanticAIExecutor) -> None:
    """History, system prompt, settings, dependencies and images pass through."""
    seen: dict[str, Any] = {}

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        seen.update(messages=messages, settings=info.model_settings, info=info)
        return ModelResponse(parts=[TextPart("ok")])

    history = [
        ModelRequest(parts=[UserPromptPart("before")]),
        ModelResponse(parts=[TextPart("then")]),
    ]
    image = BinaryContent(b"\x89PNG", media_type="image/png")
    call = Call(
        ["look", image, ImageUrl("https://example.com/a.png")],
        message_history=history,
        system_prompt="be brief",
        model_settings={"temperature": 0.5, "max_tokens": 7},
    )
    answer_ = await executor.execute(played(answer), call)
    request = seen["messages"][-1]
    assert [m.parts[0].content for m in seen["messages"][:2]] == ["before", "then"]
    assert request.parts[0].content[0] == "look"
    assert image in request.parts[0].content
    assert request.instructions == "be brief"
    assert seen["settings"] == {"temperature": 0.5, "max_tokens": 7}
    assert len(answer_.messages) == 4


@pytest.mark.parametrize(
    ("parts", "more"),
    [
        ([TextPart("four")], {}),
        ([TextPart("fo"), TextPart("ur")], {}),
        ([ThinkingPart("two and two"), TextPart("four")], {}),
        ([TextPart("four")], {"finish_reason": "length"}),
        ([TextPart("")], {}),
        ([], {}),
        ([], {"finish_reason": "length"}),
        ([], {"finish_reason": "content_filter", "provider_details": {"refusal": "no"}}),
        ([ThinkingPart("hm")], {}),
        ([ToolCallPart("unknown", "{}")], {}),
        ([FilePart(BinaryContent(b"1", media_type="image/png"))], {}),
    ],
)
async def test_a_plain_text_is_what_an_agent_would_have_made_of_it(
    executor: PydanticAIExecutor, parts: list[Any], more: dict[str, Any]
) -> None:
    """The same requests as those of an agent that may make one; the same data or refusal."""
    seen: list[tuple[list[Any], Any, Any]] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        request = messages[-1]
        assert isinstance(request, ModelRequest)
        said = [part.content for part in request.parts if isinstance(part, UserPromptPart)]
        seen.append((said, request.instructions, info.model_settings))
        return ModelResponse(parts=parts, usage=USAGE, **more)

    agent = Agent(FunctionModel(answer), retries={"output": 0})
    prompt, settings = ["2+2?", ImageUrl("https://example.org/sum.png")], ModelSettings(top_p=0.5)
    call = Call(prompt, system_prompt="be brief", model_settings={"top_p": 0.5})
    try:
        expected: Any = await agent.run(
            prompt,
            instructions="be brief",
            model_settings=settings,
            usage_limits=UsageLimits(request_limit=1),
        )
    except AgentRunError:
        with pytest.raises(ExecutionError) as caught:
            await executor.execute(played(answer), call)
        assert caught.value.response is not None
    else:
        answered = await executor.execute(played(answer), call)
        assert answered.data == expected.output == "four"
        assert answered.response.text == "four"
        assert answered.response.output_tokens == USAGE.output_tokens
        kinds = [(type(m), [p.part_kind for p in m.parts]) for m in expected.all_messages()]
        assert kinds == [(type(m), [p.part_kind for p in m.parts]) for m in answered.messages]
    half = len(seen) // 2
    assert seen[:half] == seen[half:] != []


GOOD, BAD = '{"answer": "four"}', '{"answer": 4}'


@dataclass
class Noted:
    """A form that is no pydantic model."""

    answer: str


@pytest.mark.parametrize("form", [Reply, Noted, bool, Reply | Noted, PromptedOutput(Reply)])
@pytest.mark.parametrize(
    "says_",
    [
        [GOOD],
        ["thinks", GOOD],
        [{"answer": "four"}],
        [BAD, GOOD],
        [BAD, BAD],
        ["text", "text"],
        [GOOD[:9], GOOD],
        ["unknown tool", GOOD],
        ["two calls"],
    ],
)
async def test_data_is_what_an_agent_would_have_made_of_it(
    executor: PydanticAIExecutor, form: Any, says_: list[Any]
) -> None:
    """The second call of a form asks, answers, mends and refuses as an agent with a limit does."""
    seen: list[Any] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        asked = sum(isinstance(m, ModelResponse) for m in messages)
        said = script[min(asked, len(script) - 1)]
        last = messages[-1]
        seen.append((info.model_request_parameters, [(p.part_kind) for p in last.parts]))
        if not info.output_tools:
            return ModelResponse(parts=[TextPart(str(said))], usage=USAGE)
        tool = info.output_tools[0].name
        match said:
            case "text":
                parts: list[Any] = [TextPart("four")]
            case "thinks":
                parts = [ThinkingPart("hm"), TextPart("so"), ToolCallPart(tool, GOOD)]
            case "unknown tool":
                parts = [ToolCallPart("unknown", "{}")]
            case "two calls":
                parts = [ToolCallPart(tool, GOOD), ToolCallPart(tool, GOOD)]
            case _:
                parts = [ToolCallPart(tool, said)]
        return ModelResponse(parts=parts, usage=USAGE)

    model, script = FunctionModel(answer), [GOOD]
    agent: Agent[None, Any] = Agent(model, output_type=form, retries={"output": 1})
    arm, call = ModelArm("m", model=model), Call("2+2?", result_type=form, system_prompt="brief")
    with contextlib.suppress(ExecutionError):  # as where a form is not an object
        await executor.execute(arm, call)
    script = says_
    seen.clear()
    try:
        limits = UsageLimits(request_limit=2)  # one to mend the answer, whatever was wrong with it
        expected: Any = await agent.run("2+2?", instructions="brief", usage_limits=limits)
    except AgentRunError:
        with pytest.raises(OutputInvalid) as caught:
            await executor.execute(arm, call)
        assert caught.value.response is not None
    else:
        answered = await executor.execute(arm, call)
        assert answered.data == expected.output
        kinds = [[(p.part_kind, str(p.content)) for p in m.parts if hasattr(p, "content")]
                 for m in expected.all_messages()]  # fmt: skip
        assert kinds == [[(p.part_kind, str(p.content)) for p in m.parts if hasattr(p, "content")]
                         for m in answered.messages]  # fmt: skip
        tools = {tool.name for tool in seen[-1][0].output_tools}
        counted, response = readings.read(expected.new_messages(), tools), answered.response
        assert counted.retries == response.validation_retries
        assert (counted.tool_calls, counted.tool_failures) == (
            response.tool_calls, response.tool_failures,
        )  # fmt: skip
    half = len(seen) // 2
    assert seen[:half] == seen[half:] != []


async def test_a_conversation_goes_on(
    provider: LocalProvider, executor: PydanticAIExecutor
) -> None:
    """The messages of one answer are the history of the next call."""
    arm = arm_of(provider, "good")
    first = await executor.execute(arm, Call("one [[marker:a]]"))
    second = await executor.execute(arm, Call("two [[marker:b]]", message_history=first.messages))
    assert "[[marker:b]]" in second.data
    assert len(second.messages) == 4


async def test_tools_and_toolsets_are_called_and_counted(
    provider: LocalProvider, executor: PydanticAIExecutor
) -> None:
    """Functions and toolsets are offered; calls and failures are counted."""
    called: list[str] = []

    def look_up(query: str) -> str:
        """Look something up."""
        called.append(query)
        return "found it"

    arm = arm_of(provider, "handy")
    by_tool = await executor.execute(arm, Call("Use the tool", tools=[look_up]))
    toolset = FunctionToolset([look_up])
    by_set = await executor.execute(arm, Call("Use the tool", toolsets=[toolset]))
    assert len(called) == 2
    for answer in (by_tool, by_set):
        assert "found it" in answer.data
        assert (answer.response.tool_calls, answer.response.tool_failures) == (1, 0)
        assert answer.response.validation_retries == 0


async def test_wrong_tool_arguments_are_failures(executor: PydanticAIExecutor) -> None:
    """A call with arguments that do not fit is a failure of the model's."""

    def square(number: int) -> int:
        """Square a number."""
        return number * number

    def answer(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        asked = sum(isinstance(m, ModelResponse) for m in messages)
        arguments = {"number": "three"} if asked == 0 else {"number": 3}
        part = TextPart("9") if asked == 2 else ToolCallPart("square", arguments)
        return ModelResponse(parts=[part], usage=USAGE)

    response = (await executor.execute(played(answer), Call("?", tools=[square]))).response
    assert (response.tool_calls, response.tool_failures) == (2, 1)
    assert response.input_tokens == 3_000


@pytest.mark.parametrize("raised", [LookupError, TimeoutError, ValueError])
@pytest.mark.parametrize("streamed", [False, True])
async def test_what_a_tool_raises_comes_out_as_it_is(
    provider: LocalProvider, executor: PydanticAIExecutor, raised: type[Exception], streamed: bool
) -> None:
    """An error of the caller's own code is not the model's."""

    def fail() -> str:
        """Fail."""
        raise raised("mine")

    call = Call("Use the tool", tools=[fail], timeout_s=10.0)
    with pytest.raises(raised, match="mine"):
        await (read if streamed else execute)(executor, arm_of(provider, "handy"), call)


async def execute(executor: PydanticAIExecutor, arm: ModelArm, call: Call) -> Response:
    """Return the response of a whole answer."""
    return (await executor.execute(arm, call)).response


async def read(executor: PydanticAIExecutor, arm: ModelArm, call: Call) -> Response:
    """Return the response of a streamed answer."""
    async with executor.stream(arm, call) as stream:
        async for _piece in stream:
            pass
        return stream.answer.response


# Validity


async def test_a_valid_answer_at_once_has_no_retries(executor: PydanticAIExecutor) -> None:
    """The best case is told apart."""
    response = await execute(
        executor, played(says('{"answer": "4"}')), Call("?", result_type=Reply)
    )
    assert (response.output_valid, response.validation_retries) == (True, 0)


@pytest.mark.parametrize("result_type", [Reply, PromptedOutput(Reply)], ids=["tool", "text"])
@pytest.mark.parametrize("misses", [1, 2])
async def test_retries_are_counted(
    executor: PydanticAIExecutor, misses: int, result_type: Any
) -> None:
    """An answer that was mended says how often, and what all requests took."""
    answer = says(*['{"wrong": 1}'] * misses, '{"answer": "4"}')
    call = Call("?", result_type=result_type, output_retries=2)
    arm = played(answer, input_usd_per_mtok=1.0, output_usd_per_mtok=10.0)
    response = await execute(executor, arm, call)
    assert (response.output_valid, response.validation_retries) == (True, misses)
    assert response.input_tokens == 1_000 * (misses + 1)
    assert response.cost_usd == pytest.approx(0.002 * (misses + 1))


@pytest.mark.parametrize("result_type", [Reply, PromptedOutput(Reply)], ids=["tool", "text"])
async def test_an_answer_that_never_fits_costs_what_it_costs(
    executor: PydanticAIExecutor, result_type: Any
) -> None:
    """`OutputInvalid` carries the retries, the tokens and the dollars of all its requests."""
    arm = played(says('{"wrong": 1}'), input_usd_per_mtok=1.0, output_usd_per_mtok=10.0)
    with pytest.raises(OutputInvalid) as caught:
        await executor.execute(arm, Call("?", result_type=result_type, output_retries=2))
    response = caught.value.response
    assert isinstance(response, Response)
    assert caught.value.retries == response.validation_retries == 2
    assert response.output_valid is False
    assert response.cost_usd == pytest.approx(0.006)


@pytest.mark.filterwarnings("ignore:.RetryPromptPart. is deprecated")
async def test_retries_of_the_history_are_not_counted(executor: PydanticAIExecutor) -> None:
    """What went wrong in an earlier call is not held against this one."""
    history = [
        ModelRequest(parts=[UserPromptPart("before"), RetryPromptPart("again")]),
        ModelResponse(parts=[TextPart("then")]),
    ]
    call = Call("?", result_type=Reply, output_retries=0, message_history=history)
    with pytest.raises(OutputInvalid) as caught:
        await executor.execute(played(says('{"wrong": 1}')), call)
    assert caught.value.retries == 0


# Cost


async def test_a_price_of_the_providers_own_comes_first(executor: PydanticAIExecutor) -> None:
    """What the provider says it charged is what it cost."""
    arm = played(
        says("4", provider_details={"cost": 0.5}), input_usd_per_mtok=1.0, output_usd_per_mtok=1.0
    )
    assert (await execute(executor, arm, Call("?"))).cost_usd == 0.5


async def test_a_known_model_is_priced_by_its_list(executor: PydanticAIExecutor) -> None:
    """Without a price of its own, the arm's tokens are priced by the catalogue."""
    response = await execute(executor, played(says("4"), "openai:gpt-4o-mini"), Call("?"))
    assert response.cost_usd == pytest.approx(1_000 * 0.15e-6 + 100 * 0.60e-6)


@pytest.mark.parametrize(
    "usage",
    [
        RequestUsage(output_tokens=5), RequestUsage(input_tokens=-5, output_tokens=5),
        RequestUsage(input_tokens=5, cache_read_tokens=9, output_tokens=5),
        RequestUsage(input_tokens=5, cache_write_tokens=-9, output_tokens=5),
    ],
)  # fmt: skip
async def test_unknown_usage_has_no_price(
    executor: PydanticAIExecutor, usage: RequestUsage
) -> None:
    """Nothing, negative numbers and numbers that contradict each other are not $0."""
    arm = played(says("4", usage=usage), input_usd_per_mtok=1.0, output_usd_per_mtok=1.0)
    assert (await execute(executor, arm, Call("?"))).cost_usd is None


async def test_one_unknown_request_makes_the_sum_unknown(executor: PydanticAIExecutor) -> None:
    """The cost of several requests is known when that of each is."""
    first = says('{"wrong": 1}', usage=RequestUsage(output_tokens=5))
    then = says('{"answer": "4"}')
    asked: list[int] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        asked.append(1)
        return (first if len(asked) == 1 else then)(messages, info)

    arm = played(answer, input_usd_per_mtok=1.0, output_usd_per_mtok=1.0)
    response = await execute(executor, arm, Call("?", result_type=Reply))
    assert len(asked) == 2
    assert (response.cost_usd, response.input_tokens) == (None, None)


@asynccontextmanager
async def serving(body: bytes, content_type: str) -> AsyncIterator[str]:
    """Serve one HTTP answer to everybody, and yield the base URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line[15:]) for line in head.lower().split(b"\r\n") if b"content-length" in line
        )
        await reader.readexactly(length)
        sent = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: {content_type}\r\n"
        writer.write(f"{sent}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


def chunk(**fields: Any) -> dict[str, Any]:
    """Return a chunk of a completion."""
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", **fields}


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_compatible_server_may_say_what_it_charged(
    executor: PydanticAIExecutor, streamed: bool
) -> None:
    """`usage.cost`, as OpenRouter and its like send it, is read from whole and streamed answers."""
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12, "cost": 0.125}
    message = {"role": "assistant", "content": "4"}
    whole = {
        "id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": usage,
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
    }  # fmt: skip
    chunks = [
        chunk(choices=[{"index": 0, "delta": message, "finish_reason": None}]),
        chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]),
        chunk(choices=[], usage=usage),
    ]
    events = b"".join(b"data: %b\n\n" % json.dumps(c).encode() for c in chunks)
    body = events + b"data: [DONE]\n\n" if streamed else json.dumps(whole).encode()
    kind = "text/event-stream" if streamed else "application/json"
    async with serving(body, kind) as base_url:
        arm = ModelArm("m", base_url=base_url, input_usd_per_mtok=1.0, output_usd_per_mtok=1.0)
        response = await (read if streamed else execute)(executor, arm, Call("?"))
    assert response.cost_usd == 0.125
    assert (response.input_tokens, response.output_tokens) == (10, 2)


# Connections


async def test_nothing_is_retried_by_the_client(
    provider: LocalProvider, executor: PydanticAIExecutor
) -> None:
    """One call is one request, whatever the answer; retries are the chain's business."""
    for fault in (FaultKind.RATE_LIMITED, FaultKind.SERVER_ERROR, FaultKind.CUT_AT_ONCE):
        provider.set_fault("good", Fault(fault, retry_after_s=0.0))
        with pytest.raises(ExecutionError):
            await executor.execute(arm_of(provider, "good"), Call("?"))
    assert len(provider.requests) == 3


async def test_clients_are_shared_per_provider_and_address(
    provider: LocalProvider, executor: PydanticAIExecutor
) -> None:
    """The models of one server share its connections; `close` closes them."""
    good, cheap = (executor.model(arm_of(provider, name)) for name in ("good", "cheap"))
    other = executor.model(ModelArm("good", base_url=provider.refused_url))
    assert good.client is cheap.client  # type: ignore[attr-defined]
    assert good.client is not other.client  # type: ignore[attr-defined]
    assert executor.model(arm_of(provider, "good")) is good
    assert good.client.max_retries == 0  # type: ignore[attr-defined]
    await executor.close()
    assert good.client.is_closed()  # type: ignore[attr-defined]


async def test_the_key_of_the_named_provider_is_sent(
    provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`openai:…` at an address gets OPENAI_API_KEY; a bare name gets nobody's key."""
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    sent: list[tuple[str, str | None]] = []
    executor = PydanticAIExecutor()
    for model_id in ("openai:good", "good"):
        model = executor.model(ModelArm(model_id, base_url=provider.base_url))
        sent.append((model.model_name, model.client.api_key))  # type: ignore[attr-defined]
    assert sent == [("good", "secret"), ("good", "not-set")]
    await executor.close()


async def test_a_colon_in_a_models_own_name_stays(executor: PydanticAIExecutor) -> None:
    """`llama3:8b` at an address is a name, not a provider."""
    model = executor.model(ModelArm("llama3:8b", base_url="http://127.0.0.1:1/v1"))
    assert model.model_name == "llama3:8b"


async def test_first_token_and_latency_are_measured(
    provider: LocalProvider, executor: PydanticAIExecutor
) -> None:
    """A slow model's first token comes long before its last."""
    response = await read(executor, arm_of(provider, "slow"), Call("Say [[marker:x]] " * 6))
    assert response.time_to_first_token_s is not None
    assert response.latency_s is not None
    assert 0.02 <= response.time_to_first_token_s < response.latency_s / 2
