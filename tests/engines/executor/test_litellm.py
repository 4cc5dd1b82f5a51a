"""What LiteLLM's executor passes through, counts and prices, offline."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from conduit.core.errors import InvalidInput, OutputInvalid, ProviderError
from conduit.core.models import ModelArm, Response
from conduit.engines.executor import LiteLLMExecutor
from conduit.engines.executor.base import Call
from conduit.engines.executor.chat import Form, Tool, content
from conduit.engines.executor.litellm import litellm_name
from conduit.testing.local_provider import Fault, FaultKind, LocalProvider, SimulatedModel
from tests.engines.executor.conftest import arm_of

litellm = pytest.importorskip("litellm")
pytestmark = pytest.mark.litellm


class Reply(BaseModel):
    """A form that can be missed."""

    answer: str


@dataclass
class Point:
    """A form that is a dataclass."""

    x: int
    y: int = 0


@pytest.fixture
async def executor() -> AsyncIterator[LiteLLMExecutor]:
    """Give the test its own executor."""
    executor = LiteLLMExecutor()
    yield executor
    await executor.close()


# Names and prices

NAMES = {
    "openai:gpt-4o-mini": "openai/gpt-4o-mini",
    "openai-chat:gpt-4o": "openai/gpt-4o",
    "openai-responses:gpt-4o": "openai/gpt-4o",
    "gpt-4o-mini": "openai/gpt-4o-mini",
    "openai/gpt-4o-mini": "openai/gpt-4o-mini",
    "google-gla:gemini-2.5-flash": "gemini/gemini-2.5-flash",
    "google:gemini-2.5-flash": "gemini/gemini-2.5-flash",
    "google-vertex:gemini-2.5-flash": "vertex_ai/gemini-2.5-flash",
    "bedrock:anthropic.claude-3-5-sonnet-20240620-v1:0":
        "bedrock/anthropic.claude-3-5-sonnet-20240620-v1:0",
    "groq:openai/gpt-oss-120b": "groq/openai/gpt-oss-120b",
    "mistral:mistral-small-latest": "mistral/mistral-small-latest",
    "cohere:command-a-03-2025": "cohere_chat/command-a-03-2025",
    "azure:gpt-4o": "azure/gpt-4o",
    "anthropic:claude-haiku-4-5": "anthropic/claude-haiku-4-5",
    "deepseek:deepseek-chat": "deepseek/deepseek-chat",
    "together:meta-llama/Llama-3-8b-chat-hf": "together_ai/meta-llama/Llama-3-8b-chat-hf",
    "fireworks:accounts/fireworks/models/llama-v3p1-8b-instruct":
        "fireworks_ai/accounts/fireworks/models/llama-v3p1-8b-instruct",
    "cerebras:llama3.1-8b": "cerebras/llama3.1-8b",
}  # fmt: skip


@pytest.mark.parametrize(("written", "named"), NAMES.items())
def test_names_become_litellms_and_have_a_price(
    executor: LiteLLMExecutor, written: str, named: str
) -> None:
    """PydanticAI's names are understood, and each has a price, whatever LiteLLM's map has lost."""
    assert litellm_name(ModelArm(written)) == named
    price = executor.list_price_usd(named, 1_000_000, 1_000_000)
    assert price is not None
    assert price > 0.0


def test_what_is_not_known_to_cost_nothing_has_no_price(executor: LiteLLMExecutor) -> None:
    """$0 is believed of one's own machine; of a provider without a price it means unknown."""
    assert executor.list_price_usd("ollama/llama3", 100, 100) == 0.0
    assert executor.list_price_usd("ollama/gpt-oss:120b-cloud", 100, 100) is None
    assert executor.list_price_usd("cloudflare/@cf/google/gemma-2b-it-lora", 9, 9) is None
    assert executor.list_price_usd("nobody/nothing", 100, 100) is None
    assert executor.list_price_usd("openai/gpt-4o", 0, 100) is None


@pytest.mark.parametrize(
    ("written", "named"),
    [("openai:mine", "openai/mine"), ("mine", "openai/mine"), ("llama3:8b", "openai/llama3:8b")],
)
def test_a_server_of_ones_own_speaks_openais_protocol(written: str, named: str) -> None:
    """With a `base_url` every model goes through LiteLLM's OpenAI client, under its own name."""
    assert litellm_name(ModelArm(written, base_url="http://127.0.0.1:1/v1")) == named


def test_the_price_list_is_not_fetched_and_the_setting_is_kept() -> None:
    """Without a word LiteLLM's map is local; what the user says stands."""
    code = (
        "import os, sys; os.environ.pop('LITELLM_LOCAL_MODEL_COST_MAP', None)\n"
        "if sys.argv[1]: os.environ['LITELLM_LOCAL_MODEL_COST_MAP'] = sys.argv[1]\n"
        "import types; sys.modules['litellm'] = None\n"
        "from conduit.engines.executor import LiteLLMExecutor\n"
        "try: LiteLLMExecutor()\n"
        "except Exception as error: print(error)\n"
        "print(os.environ['LITELLM_LOCAL_MODEL_COST_MAP'])"
    )
    for given, kept in (("", "True"), ("False", "False")):
        run = subprocess.run(
            [sys.executable, "-c", code, given], capture_output=True, text=True, check=True
        )
        missing, setting = run.stdout.splitlines()
        assert setting == kept
        assert 'pip install "conduit-router[litellm]"' in missing


# Answers


@pytest.mark.parametrize(
    ("result_type", "text", "data"),
    [
        (Reply, '{"answer": "4"}', Reply(answer="4")),
        (Reply, '```json\n{"answer": "4"}\n```', Reply(answer="4")),
        (Point, '{"x": 1}', Point(1)),
        (list[int], '{"value": [1, 2]}', [1, 2]),
        (list[int], "[1, 2]", [1, 2]),
        (int, "4", 4),
        (Reply | Point, '{"value": {"x": 3}}', Point(3)),
        (Reply | str, '{"answer": "4"}', Reply(answer="4")),
        (Reply | str, "47", "47"),
        (Reply | str, "plain words", "plain words"),
        (str, '{"answer": "4"}', '{"answer": "4"}'),
    ],
)
def test_a_form_reads_what_models_write(result_type: Any, text: str, data: Any) -> None:
    """Objects, wrapped values, fenced JSON and text become the type that was asked for."""
    assert Form(result_type).data(text) == data


@pytest.mark.parametrize(
    "result_type", [Reply, Point, list[int], list[str], dict[str, str], int, Reply | Point]
)
def test_a_schema_is_an_object_at_its_root(result_type: Any) -> None:
    """Providers refuse other schemas; definitions stay where references find them."""
    schema = Form(result_type).schema
    assert schema["type"] == "object"
    assert "$defs" not in schema.get("properties", {}).get("value", {})


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_text_is_no_answer(text: str) -> None:
    """Nothing is not an answer to anything."""
    with pytest.raises(ValueError, match="empty"):
        Form(str).data(text)


async def test_an_answer_is_mended_within_bounds(
    provider: LocalProvider, executor: LiteLLMExecutor
) -> None:
    """A model is told what is wrong, so often and no more, and all of it is paid for."""
    with pytest.raises(OutputInvalid) as caught:
        await executor.execute(
            arm_of(provider, "sloppy"), Call("?", result_type=Reply, output_retries=2)
        )
    assert len(provider.requests) == 3
    assert caught.value.retries == 2
    assert isinstance(caught.value.response, Response)
    assert caught.value.response.validation_retries == 2
    assert caught.value.response.cost_usd == pytest.approx(provider.spent_usd)


async def test_a_mended_answer_counts_its_retries(executor: LiteLLMExecutor) -> None:
    """An answer that was wrong at first is valid, and says so."""
    said = iter(['{"wrong": 1}', '{"answer": "4"}'])
    model = SimulatedModel("m", 1.0, 1.0, responder=lambda _: next(said))
    async with LocalProvider([model]) as provider:
        answer = await executor.execute(arm_of(provider, "m"), Call("?", result_type=Reply))
    assert answer.data == Reply(answer="4")
    assert (answer.response.output_valid, answer.response.validation_retries) == (True, 1)


async def test_a_conversation_goes_on(provider: LocalProvider, executor: LiteLLMExecutor) -> None:
    """The messages of one answer are the history of the next call."""
    arm = arm_of(provider, "good")
    first = await executor.execute(arm, Call("one [[marker:a]]", system_prompt="be brief"))
    second = await executor.execute(arm, Call("two [[marker:b]]", message_history=first.messages))
    assert "[[marker:b]]" in second.data
    assert [m["role"] for m in second.messages] == [
        "system", "user", "assistant", "user", "assistant",
    ]  # fmt: skip


# Tools


@pytest.mark.parametrize("streamed", [False, True])
async def test_functions_are_tools(
    provider: LocalProvider, executor: LiteLLMExecutor, streamed: bool
) -> None:
    """A function is offered with its types, called, and its result is answered from."""
    called: list[str] = []

    async def look_up(query: str) -> dict[str, int]:
        """Look something up."""
        called.append(query)
        return {"found": 42}

    call = Call("Use the tool", tools=[look_up])
    arm = arm_of(provider, "handy")
    if streamed:
        async with executor.stream(arm, call) as stream:
            text = "".join([piece async for piece in stream])
            answer = stream.answer
    else:
        answer = await executor.execute(arm, call)
        text = answer.data
    assert len(called) == 1
    assert '{"found":42}' in text
    assert (answer.response.tool_calls, answer.response.tool_failures) == (1, 0)


async def test_wrong_arguments_go_back_to_the_model() -> None:
    """What does not fit is said to the model, and counted as its failure."""

    def square(number: int) -> int:
        """Square a number."""
        return number * number

    tool = Tool.of(square)
    assert await tool.called('{"number": 3}') == ("9", True)
    for arguments in ('{"number": "three"}', "{}", "not JSON"):
        words, is_right = await tool.called(arguments)
        assert "arguments are wrong" in words
        assert not is_right


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_plain_function_holds_up_nobody(
    provider: LocalProvider, executor: LiteLLMExecutor, streamed: bool
) -> None:
    """It runs in a thread: the loop goes on, and the deadline holds."""
    go_on, beats = threading.Event(), 0

    def slow() -> str:
        """Take a while."""
        go_on.wait(30.0)
        return "done"

    async def ask() -> None:
        call = Call("Use the tool", tools=[slow], timeout_s=0.5)
        if not streamed:
            await executor.execute(arm_of(provider, "handy"), call)
        async with executor.stream(arm_of(provider, "handy"), call) as stream:
            async for _piece in stream:
                pass

    asking = asyncio.ensure_future(ask())
    while not asking.done() and beats < 1_000:
        await asyncio.sleep(0.01)
        beats += 1
    with pytest.raises(ProviderError, match="in time"):
        await asking
    assert not go_on.is_set()
    assert beats > 5
    go_on.set()


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_a_tool_raises_comes_out_as_it_is(
    provider: LocalProvider, executor: LiteLLMExecutor, streamed: bool
) -> None:
    """An error of the caller's own code is not the model's."""

    def fail() -> str:
        """Fail."""
        raise LookupError("mine")

    async def ask() -> None:
        call = Call("Use the tool", tools=[fail])
        if not streamed:
            await executor.execute(arm_of(provider, "handy"), call)
        async with executor.stream(arm_of(provider, "handy"), call) as stream:
            async for _piece in stream:
                pass

    with pytest.raises(LookupError, match="mine"):
        await ask()


async def test_what_only_pydantic_ai_can_do_is_refused(executor: LiteLLMExecutor) -> None:
    """Toolsets and tools without functions, and foreign messages, are refused by name, unsent."""
    arm = ModelArm("openai:gpt-4o-mini", base_url="http://127.0.0.1:1/v1")
    for call in (
        Call("?", toolsets=[object()]),
        Call("?", tools=[object()]),
        Call("?", message_history=[object()]),
        Call([object()]),
    ):
        with pytest.raises(InvalidInput):
            await executor.execute(arm, call)


def test_images_and_files_have_their_parts() -> None:
    """Addresses and bytes, as PydanticAI's classes hold them, become OpenAI's parts."""

    @dataclass
    class Held:
        """Bytes with a media type."""

        data: bytes
        media_type: str

    parts = content(["look", Held(b"\x89", "image/png"), Held(b"%P", "application/pdf"), {"a": 1}])
    assert isinstance(parts, list)
    assert [part.get("type") for part in parts] == ["text", "image_url", "file", None]
    assert parts[1]["image_url"]["url"] == "data:image/png;base64,iQ=="


async def test_nothing_is_retried_by_litellm(
    provider: LocalProvider, executor: LiteLLMExecutor
) -> None:
    """One call is one request, whatever the answer."""
    for fault in (FaultKind.RATE_LIMITED, FaultKind.SERVER_ERROR, FaultKind.CUT_AT_ONCE):
        provider.set_fault("good", Fault(fault, retry_after_s=0.0))
        with pytest.raises(Exception, match="good"):
            await executor.execute(arm_of(provider, "good"), Call("?"))
    assert len(provider.requests) == 3
