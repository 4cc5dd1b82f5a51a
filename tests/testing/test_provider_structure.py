"""Structured answers, tools, streams and histories, through PydanticAI."""

from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel, Field
from pydantic_ai import Agent, NativeOutput, UnexpectedModelBehavior
from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from conduit.testing.local_provider import (
    LocalProvider,
    SimulatedModel,
    provider_questions,
)
from tests.testing.provider_clients import MODELS, client_of, said, serving


class City(BaseModel):
    """A typed answer."""

    answer: str
    confidence: float = Field(ge=0.0, le=1.0)


class Number(BaseModel):
    """Another one, for unions."""

    count: int


class Verdict(BaseModel):
    """A choice between words."""

    reason: str
    sentiment: Literal["negative", "positive"]


@pytest.fixture
async def provider() -> AsyncIterator[LocalProvider]:
    """Serve the models above."""
    async with LocalProvider(MODELS, seed=1) as provider:
        yield provider


@pytest.fixture
async def client(provider: LocalProvider) -> AsyncIterator[AsyncOpenAI]:
    """Return the real client, without retries."""
    async with client_of(provider.base_url) as client:
        yield client


def model_of(client: AsyncOpenAI, name: str, kind: str = "chat") -> Model:
    """Return a PydanticAI model that talks to the provider."""
    vendor = OpenAIProvider(openai_client=client)
    if kind == "chat":
        return OpenAIChatModel(name, provider=vendor)
    return OpenAIResponsesModel(name, provider=vendor)


async def test_a_responder_answers_instead_of_the_simulation() -> None:
    """A judge or any other special model is a function, where it has something to say."""

    def judge(prompt: str) -> str | None:
        return '{"answer": "0.75", "confidence": 1.0}' if "Judge" in prompt else None

    async with serving(SimulatedModel("judge", responder=judge)) as (_, client):
        agent = Agent(model_of(client, "judge"), output_type=City)
        assert (await agent.run("Judge this.")).output == City(answer="0.75", confidence=1.0)
        assert await said(client, "What is 2 + 3?", "judge") == "5"


@pytest.mark.parametrize("kind", ["chat", "responses"])
async def test_a_stream_says_what_the_whole_answer_says(client: AsyncOpenAI, kind: str) -> None:
    """Both APIs stream the same text in small pieces, with the same usage as without a stream."""
    agent = Agent(model_of(client, "good", kind))
    prompt = "Which city is the capital of Mongolia? [[marker:s1]]"
    whole = await agent.run(prompt)
    async with agent.run_stream(prompt) as stream:
        pieces = [piece async for piece in stream.stream_text(delta=True, debounce_by=None)]
    assert "".join(pieces) == whole.output == "Ulaanbaatar [[marker:s1]]"
    assert len(pieces) > 3
    assert stream.usage.input_tokens == whole.usage.input_tokens > 0
    assert stream.usage.output_tokens == whole.usage.output_tokens > 0


@pytest.mark.parametrize("kind", ["chat", "responses"])
@pytest.mark.parametrize("output", [City, NativeOutput(City)], ids=["tool", "schema"])
async def test_structured_answers_are_valid(client: AsyncOpenAI, output: Any, kind: str) -> None:
    """A typed answer arrives on the first try, by tool or by schema, with the right content."""
    agent = Agent(model_of(client, "good", kind), output_type=output)
    result = await agent.run("What is the capital of Peru? [[marker:9]]")
    assert result.output.answer == "Lima [[marker:9]]"
    assert result.usage.requests == 1


@pytest.mark.parametrize("output", [City, NativeOutput(City)], ids=["tool", "schema"])
async def test_invalid_answers_are_refused_and_retried(
    provider: LocalProvider, client: AsyncOpenAI, output: Any
) -> None:
    """Validity 0 fails every try; the ledger says that each of them was invalid."""
    agent = Agent(model_of(client, "sloppy"), output_type=output, retries=2)
    with pytest.raises(UnexpectedModelBehavior):
        await agent.run("What is the capital of Peru?")
    assert [row.is_valid for row in provider.requests] == [False] * 3
    assert len({row.prompt_id for row in provider.requests}) == 1


async def test_validity_is_drawn_anew_for_each_try() -> None:
    """At one half a retry helps: all runs end valid, and about half needed more than one try."""
    questions = provider_questions(["capitals"], n=24, seed=6)
    async with serving(SimulatedModel("m", validity={"capitals": 0.5})) as (_, client):
        agent = Agent(model_of(client, "m"), output_type=City, retries=12)
        results = [await agent.run(question.prompt) for question in questions]
    assert all(q.grade(r.output.answer) for q, r in zip(questions, results, strict=True))
    assert 5 <= sum(result.usage.requests > 1 for result in results) <= 19


async def test_numbers_unions_and_choices_get_the_answer(client: AsyncOpenAI) -> None:
    """A numeric field, a literal and the first type of a union carry what was asked for."""
    model = model_of(client, "good")
    assert (await Agent(model, output_type=Number).run("What is 6 * 7?")).output.count == 42
    assert (await Agent(model, output_type=int).run("What is 6 * 7?")).output == 42
    review = 'Is this review positive or negative?\nReview: "It came up in a sale. The app {}."'
    verdict = await Agent(model, output_type=Verdict).run(review.format("was worth every cent"))
    assert verdict.output == Verdict(sentiment="positive", reason="simulated")
    either: Agent[None, Any] = Agent(model, output_type=[City, Number])
    assert isinstance((await either.run("What is the capital of Peru?")).output, City)


@pytest.mark.parametrize("kind", ["chat", "responses"])
async def test_tools_are_called_before_the_answer(client: AsyncOpenAI, kind: str) -> None:
    """A model that calls tools calls the first one validly, then answers with what it said."""
    calls: list[str] = []

    def weather(city: str, days: int) -> str:
        """Return the weather of a city."""
        calls.append(city)
        return f"sunny for {days} days"

    agent = Agent(model_of(client, "handy", kind), tools=[weather])
    result = await agent.run("Tell me about the weather. [[marker:t1]]")
    assert len(calls) == 1
    assert result.output == "The tool says: sunny for 1 days [[marker:t1]]"
    typed = Agent(model_of(client, "handy", kind), tools=[weather], output_type=City)
    typed_result = await typed.run("What is the capital of Peru?")
    assert len(calls) == 2
    assert typed_result.output.answer == "Lima"


async def test_a_model_that_calls_no_tools_calls_one_only_when_it_must(
    client: AsyncOpenAI,
) -> None:
    """`tool_choice` decides: auto answers, required and a name call, none never does."""
    parameters = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
    names = ("first", "second")
    tools: Any = [
        {"type": "function", "function": {"name": name, "parameters": parameters}} for name in names
    ]
    named = {"type": "function", "function": {"name": "second"}}
    called = []
    choices: tuple[Any, ...] = ("auto", "none", "required", named)
    for choice in choices:
        answer = await client.chat.completions.create(
            model="good",
            messages=[{"role": "user", "content": "What is 2 + 3?"}],
            tools=tools,
            tool_choice=choice,
        )
        calls: Any = answer.choices[0].message.tool_calls or [None]
        called.append(calls[0] and calls[0].function.name)
    assert called == [None, None, "first", "second"]


@pytest.mark.parametrize("kind", ["chat", "responses"])
async def test_structured_answers_stream(client: AsyncOpenAI, kind: str) -> None:
    """A typed answer grows while it streams, and ends complete."""
    agent = Agent(model_of(client, "good", kind), output_type=City)
    async with agent.run_stream("What is the capital of Peru?") as stream:
        seen = [part async for part in stream.stream_output(debounce_by=None)]
    assert seen[-1].answer == "Lima"


async def test_a_history_keeps_its_last_question(client: AsyncOpenAI) -> None:
    """With a conversation before it, the last question is answered."""
    agent = Agent(model_of(client, "good"))
    first = await agent.run("What is the capital of Peru?")
    second = await agent.run("What is 2 + 3?", message_history=first.all_messages())
    assert (first.output, second.output) == ("Lima", "5")
