"""What a call carries reaches the server: both executors, over real HTTP, by what it received."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import BinaryContent, FunctionToolset, ImageUrl

from conduit.core.models import ModelArm
from conduit.engines.executor import LiteLLMExecutor, PydanticAIExecutor
from conduit.engines.executor.base import Call, Executor
from conduit.testing.local_provider import LocalProvider
from conduit.testing.provider_http import Connection, Request
from tests.engines.executor.conftest import MODELS, arm_of

IMAGE = BinaryContent(b"\x89PNG", media_type="image/png")
PDF = BinaryContent(b"%PDF-1.4", media_type="application/pdf")


class Recording(LocalProvider):
    """A provider that keeps what it was asked, word for word."""

    def __init__(self) -> None:
        """Serve the models of the other tests."""
        super().__init__(MODELS)
        self.bodies: list[dict[str, Any]] = []

    async def _serve(self, request: Request, connection: Connection) -> None:
        self.bodies.append(json.loads(request.body))
        await super()._serve(request, connection)


@pytest.fixture
async def recording() -> AsyncIterator[Recording]:
    """Give the test its own provider."""
    async with Recording() as provider:
        yield provider


@pytest.fixture(
    params=[PydanticAIExecutor, pytest.param(LiteLLMExecutor, marks=pytest.mark.litellm)],
    ids=["pydantic_ai", "litellm"],
)
async def executor(request: pytest.FixtureRequest) -> AsyncIterator[Executor]:
    """Give each executor that speaks HTTP."""
    make: Callable[[], Executor] = request.param
    executor = make()
    yield executor
    await executor.close()


@pytest.fixture
def good(recording: Recording) -> ModelArm:
    """Give a model that answers well."""
    return arm_of(recording, "good")


async def sent(executor: Executor, arm: ModelArm, call: Call, *, streamed: bool) -> Any:
    """Send a call, whole or streamed, and return the answer."""
    if not streamed:
        return await executor.execute(arm, call)
    async with executor.stream(arm, call) as stream:
        async for _piece in stream:
            pass
        return stream.answer


def parts_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the parts of the last message that a user wrote."""
    content = [m["content"] for m in body["messages"] if m["role"] == "user"][-1]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


both_ways = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@both_ways
async def test_images_and_files_arrive_beside_the_text(
    recording: Recording, executor: Executor, good: ModelArm, streamed: bool
) -> None:
    """Bytes arrive as data addresses with their media type, an address as it was written."""
    prompt = ["Look:", IMAGE, ImageUrl("https://example.com/a.png"), PDF]
    await sent(executor, good, Call(prompt), streamed=streamed)
    text, image, linked, file = parts_of(recording.bodies[-1])
    assert text["text"] == "Look:"
    assert image["image_url"]["url"] == "data:image/png;base64,iVBORw=="
    assert linked["image_url"]["url"] == "https://example.com/a.png"
    assert file["type"] == "file"
    assert file["file"]["file_data"].startswith("data:application/pdf;base64,JVBERi0xLjQ")


@both_ways
async def test_system_prompt_settings_and_history_arrive(
    recording: Recording, executor: Executor, good: ModelArm, streamed: bool
) -> None:
    """The server sees the system prompt first, then what was said before, then the prompt."""
    first = await executor.execute(good, Call("one", system_prompt="be brief"))
    call = Call(
        "two",
        system_prompt="be brief",
        message_history=first.messages,
        model_settings={"temperature": 0.25, "max_tokens": 77},
    )
    await sent(executor, good, call, streamed=streamed)
    body = recording.bodies[-1]
    assert [m["role"] for m in body["messages"]] == ["system", "user", "assistant", "user"]
    assert body["messages"][0]["content"] == "be brief"
    assert first.data in json.dumps(body["messages"][2])
    assert (body["temperature"], body.get("max_tokens", body.get("max_completion_tokens"))) == (
        0.25,
        77,
    )


@both_ways
@pytest.mark.parametrize("as_toolset", [False, True], ids=["tool", "toolset"])
async def test_tools_and_toolsets_arrive_with_their_schema(
    recording: Recording, executor: Executor, streamed: bool, as_toolset: bool
) -> None:
    """The server sees name, words and parameters of a tool; what it returns goes back."""
    asked: list[int] = []

    def lookup(number: int) -> str:
        """Look a number up."""
        asked.append(number)
        return "found it"

    given: dict[str, Any] = {"tools": [lookup]}
    if as_toolset:
        given = {"toolsets": [FunctionToolset([lookup])]}
    handy = arm_of(recording, "handy")
    answer = await sent(executor, handy, Call("Look up 7.", **given), streamed=streamed)
    (tool,) = recording.bodies[0]["tools"]
    assert tool["function"]["name"] == "lookup"
    assert "Look a number up." in tool["function"]["description"]
    assert tool["function"]["parameters"]["properties"]["number"]["type"] == "integer"
    assert len(asked) == answer.response.tool_calls == 1
    returned = [m for m in recording.bodies[-1]["messages"] if m["role"] == "tool"]
    assert "found it" in json.dumps(returned)


class Place(BaseModel):
    """A place with its name."""

    answer: str


@both_ways
async def test_the_schema_of_a_typed_answer_arrives(
    recording: Recording, executor: Executor, good: ModelArm, streamed: bool
) -> None:
    """A result type is told to the server, with images beside it as well."""
    call = Call(["Where is it?", IMAGE], result_type=Place)
    answer = await sent(executor, good, call, streamed=streamed)
    assert isinstance(answer.data, Place)
    body = recording.bodies[-1]
    told = json.dumps([body.get("tools"), body.get("response_format"), body["messages"]])
    assert "answer" in told
    assert any(part.get("type") == "image_url" for part in parts_of(body))
