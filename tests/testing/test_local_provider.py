"""LocalProvider through the real client: what it answers, and what its books say."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from conduit.core.errors import ConfigurationError, InvalidInput
from conduit.testing.local_provider import (
    TOPICS,
    Fault,
    FaultKind,
    LedgerRow,
    LocalProvider,
    SimulatedModel,
    count_tokens,
    prompt_id,
    provider_questions,
)
from conduit.testing.provider_answers import Turn, ask_from, compose
from conduit.testing.provider_models import model_from
from tests.testing.provider_clients import MODELS, chunks_of, client_of, said, serving, until

KEY = "sk-canary-5f0e1d"


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


@pytest.mark.parametrize("topic", TOPICS)
async def test_a_good_model_is_right_and_a_bad_one_plausibly_wrong(
    provider: LocalProvider, client: AsyncOpenAI, topic: str
) -> None:
    """Skill 1 answers each topic rightly, skill 0 wrongly, and the provider can tell."""
    for question in provider_questions([topic], n=3, seed=5):
        assert await said(client, question.prompt) == question.expected
        wrong = await said(client, question.prompt, "bad")
        assert wrong in question.wrong
        assert provider.grade(question.prompt, question.expected)
        assert not provider.grade(question.prompt, wrong)


def test_skill_is_a_probability_per_topic() -> None:
    """Over many questions the share of right answers is the topic's skill, 1 where none is set."""
    model = SimulatedModel("m", skill={"arithmetic": 0.9, "units": 0.2})
    right: Counter[str] = Counter()
    for question in provider_questions(["arithmetic", "units", "dates"], n=1_500, seed=2):
        answer = compose(model, ask_from([Turn("user", question.prompt)], model="m"), seed=0)
        assert answer.is_right == question.grade(answer.content)
        right[question.topic] += answer.is_right
    assert right["dates"] == 500
    assert right["arithmetic"] / 500 == pytest.approx(0.9, abs=0.05)
    assert right["units"] / 500 == pytest.approx(0.2, abs=0.06)


async def test_answers_depend_on_seed_model_and_prompt_alone() -> None:
    """Order, repetition and time change nothing; another seed does."""
    questions = provider_questions(n=20, seed=3)
    models = [SimulatedModel("a", skill=0.5), SimulatedModel("b", skill=0.5)]
    heard: list[list[str]] = []
    for seed, order in ((0, 1), (0, -1), (1, 1)):
        async with serving(*models, seed=seed) as (_, client):
            answers = [await said(client, q.prompt, "a") for q in questions[::order]]
        heard.append(answers[::order])
    assert heard[0] == heard[1]
    assert heard[0] != heard[2]


async def test_usage_comes_in_a_stream_only_when_asked_for(client: AsyncOpenAI) -> None:
    """Without `include_usage` no chunk has usage, with it the last one has."""
    for include in (False, True):
        options = {"include_usage": include}
        chunks = [c async for c in chunks_of(client, "What is 2 + 3?", stream_options=options)]
        assert [chunk.usage is not None for chunk in chunks[:-1]] == [False] * (len(chunks) - 1)
        assert (chunks[-1].usage is not None) is include


async def test_other_prompts_are_echoed_with_their_markers(client: AsyncOpenAI) -> None:
    """A prompt that is no known question comes back, whoever asked it, in parts or as a string."""
    assert await said(client, "Hello [[marker:7]] there") == "You said: Hello there [[marker:7]]"
    parts: Any = [
        {"type": "text", "text": "What is 3 * 12?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    answer = await client.chat.completions.create(
        model="good", messages=[{"role": "user", "content": parts}]
    )
    assert answer.choices[0].message.content == "36"


async def test_a_limit_on_tokens_cuts_the_answer(client: AsyncOpenAI) -> None:
    """`max_tokens` is kept and reported as the reason of the end."""
    answer = await client.chat.completions.create(
        model="good", messages=[{"role": "user", "content": "Hello " * 20}], max_tokens=3
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.content == "You said: He"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


@pytest.mark.parametrize("streamed", [False, True])
async def test_text_completions_answer_as_chats_do(
    provider: LocalProvider, client: AsyncOpenAI, streamed: bool
) -> None:
    """The older API gives the same text for the same question, whole or in pieces, and bills it."""
    prompt = f"{provider_questions(n=1)[0].prompt} [[marker:a]]"
    if streamed:
        pieces = await client.completions.create(
            model="good", prompt=prompt, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in pieces]
        text = "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
        usage = chunks[-1].usage
    else:
        answer = await client.completions.create(model="good", prompt=[prompt])
        text, usage = answer.choices[0].text, answer.usage
    assert text == await said(client, prompt)
    assert "[[marker:a]]" in text
    row = provider.requests[0]
    assert usage is not None
    assert (row.input_tokens, row.output_tokens) == (usage.prompt_tokens, usage.completion_tokens)
    assert row.usd > 0.0


async def test_a_text_completion_is_of_one_prompt(client: AsyncOpenAI) -> None:
    """Tokens are a prompt too; several prompts in one request are refused, not half answered."""
    answer = await client.completions.create(model="good", prompt=[1, 2, 3])
    assert answer.choices[0].text
    with pytest.raises(openai.BadRequestError, match="one text"):
        await client.completions.create(model="good", prompt=["one", "two"])


async def test_embeddings_are_near_for_shared_words(
    provider: LocalProvider, client: AsyncOpenAI
) -> None:
    """Vectors are unit, deterministic, of the size asked for, and alike for alike texts."""
    texts = ["red apple pie", "apple pie", "quantum field theory"]
    vectors: list[list[list[float]]] = []
    for options in ({}, {"encoding_format": "float"}):  # the client's own choice is base64
        response = await client.embeddings.create(
            model="text-embedding-3-small", input=texts, dimensions=256, **cast(Any, options)
        )
        vectors.append([item.embedding for item in response.data])
    assert vectors[0][0] == pytest.approx(vectors[1][0], abs=1e-6)
    a, b, c = vectors[0]
    assert len(a) == 256
    dot = [sum(x * y for x, y in zip(a, other, strict=True)) for other in (a, b, c)]
    assert dot[0] == pytest.approx(1.0, abs=1e-5)
    assert dot[1] > 0.7 > 0.3 > dot[2]
    assert provider.requests[0].usd > 0.0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "text-embedding-3-small", "input": []}, 400),
        ({"model": "text-embedding-3-small", "input": ["x"], "dimensions": 0}, 400),
        ({"model": "absent", "input": "x"}, 404),
        ({"model": "good", "input": "x", "dimensions": 3}, 200),
        ({"model": "good", "input": "", "dimensions": 1}, 200),
    ],
)
async def test_embeddings_requests_are_checked(
    provider: LocalProvider, body: dict[str, Any], status: int
) -> None:
    """What cannot be embedded is refused; every model can embed, at its own input price."""
    async with httpx.AsyncClient(base_url=provider.base_url, verify=False) as client:
        response = await client.post("/embeddings", json=body)
    assert response.status_code == status
    assert len(provider.requests) == (status == 200)


async def test_models_are_listed(client: AsyncOpenAI) -> None:
    """`GET /v1/models` names every model, and each can be looked up."""
    names = {model.id async for model in client.models.list()}
    assert names >= {model.name for model in MODELS}
    assert (await client.models.retrieve("good")).id == "good"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("absent")


async def test_the_ledger_sums_to_what_clients_were_told(
    provider: LocalProvider, client: AsyncOpenAI
) -> None:
    """Dollars are reported tokens times price, per row and in all; counts are per model."""
    usd = 0.0
    for i, question in enumerate(provider_questions(n=20, seed=7)):
        model = MODELS[i % 2]
        answer = await client.chat.completions.create(
            model=model.name, messages=[{"role": "user", "content": question.prompt}]
        )
        assert answer.usage is not None
        usd += model.usd(answer.usage.prompt_tokens, answer.usage.completion_tokens)
        assert answer.usage.completion_tokens == count_tokens(
            answer.choices[0].message.content or ""
        )
    assert provider.spent_usd == pytest.approx(usd, abs=1e-12)
    assert provider.calls_by_model == {"good": 10, "bad": 10}
    assert sum(row.usd for row in provider.requests) == pytest.approx(usd, abs=1e-12)


@pytest.mark.parametrize(("tokens", "low", "high"), [(100, 100, 100), ((50, 80), 50, 80)])
async def test_output_tokens_are_billed_as_set(tokens: Any, low: int, high: int) -> None:
    """A fixed count or a range is what is billed; what the text lacks is reported as reasoning."""
    async with serving(SimulatedModel("m", 0.0, 10.0, output_tokens=tokens)) as (provider, client):
        for question in provider_questions(n=12):
            await said(client, question.prompt, "m")
        counts = {row.output_tokens for row in provider.requests}
        assert provider.spent_usd == pytest.approx(
            sum(row.output_tokens for row in provider.requests) * 10.0 / 1e6
        )
    assert low <= min(counts) <= max(counts) <= high
    assert (len(counts) > 1) == (low != high)


async def test_two_hundred_calls_at_once_do_not_mix(
    provider: LocalProvider, client: AsyncOpenAI
) -> None:
    """Each of 200 concurrent calls, streamed or not, gets its own marker; the rows are complete."""

    async def one(i: int) -> bool:
        prompt = f"Say something about item {i}. [[marker:{i}]]"
        if i % 2:
            return f"[[marker:{i}]]" in await said(client, prompt)
        stream = chunks_of(client, prompt, "slow", max_tokens=20)
        deltas = [chunk.choices[0].delta.content or "" async for chunk in stream]
        return f"[[marker:{i}]]" in "".join(deltas)

    assert all(await asyncio.gather(*map(one, range(200))))
    rows = provider.requests
    assert sorted(row.marker for row in rows) == sorted(f"[[marker:{i}]]" for i in range(200))
    assert all(row.status == 200 and row.finished_at is not None for row in rows)
    assert len({row.id for row in rows}) == 200


async def test_speed_is_kept(provider: LocalProvider, client: AsyncOpenAI) -> None:
    """The first piece comes after `ttft_s`, and the rest at `tokens_per_s`."""
    began = time.monotonic()
    chunks = chunks_of(client, "Hello there, how are you?", "slow", max_tokens=30)
    times = [time.monotonic() - began async for _ in chunks]
    assert times[0] >= 0.05
    assert times[-1] >= 0.05 + 30 / 100.0 - 0.02


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_is_noticed_at_once(
    provider: LocalProvider, stream: bool
) -> None:
    """The row has the moment of leaving, and bills only what was produced by then."""
    async with httpx.AsyncClient(base_url=provider.base_url, verify=False) as client:
        body = {
            "model": "slow",
            "stream": stream,
            "messages": [{"role": "user", "content": "Hello " * 30}],
        }
        call = asyncio.create_task(client.post("/chat/completions", json=body))
        assert await until(lambda: bool(provider.requests))
        await asyncio.sleep(0.3)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        left_at = time.time()
        assert await until(lambda: provider.requests[0].finished_at is not None)
    row = provider.requests[0]
    assert row.client_disconnected_at is not None
    assert abs(row.client_disconnected_at - left_at) < 1.0
    assert 0 < row.output_tokens < 200
    assert row.status == (200 if stream else None)
    assert row.usd == pytest.approx((row.input_tokens + row.output_tokens) / 1e6)


async def test_a_prompt_has_one_id_in_all_rows(
    provider: LocalProvider, client: AsyncOpenAI
) -> None:
    """Rows name a prompt by what `prompt_id` returns, whatever the model and API."""
    prompt = "What is the capital of Peru?"
    await said(client, prompt)
    await said(client, prompt, "bad")
    await client.responses.create(model="good", input=prompt)
    assert [row.prompt_id for row in provider.requests] == [prompt_id(prompt)] * 3


async def test_a_model_can_be_replaced_while_it_serves(
    provider: LocalProvider, client: AsyncOpenAI
) -> None:
    """Drift is a model of the same name with other skills and prices."""
    prompt = "What is the capital of Peru?"
    before = await said(client, prompt)
    provider.replace_model(replace(MODELS[0], skill=0.0, output_usd_per_mtok=0.0))
    after = await said(client, prompt)
    assert (provider.grade(prompt, before), provider.grade(prompt, after)) == (True, False)
    assert provider.requests[1].usd < provider.requests[0].usd


async def test_another_process_reads_the_ledger_and_sets_faults(
    provider: LocalProvider, client: AsyncOpenAI
) -> None:
    """The control endpoints are the provider's own methods over HTTP."""
    await said(client, "What is 2 + 3?")
    async with httpx.AsyncClient(base_url=provider.base_url[:-3], verify=False) as http:
        rows = [LedgerRow(**row) for row in (await http.get("/control/requests")).json()]
        assert rows == provider.requests
        fault = {"model": "good", "fault": {"kind": "unavailable"}}
        assert (await http.post("/control/fault", json=fault)).status_code == 200
        with pytest.raises(openai.InternalServerError):
            await said(client, "What is 2 + 3?")
        await http.post("/control/fault", json={"model": "good", "fault": None})
        assert await said(client, "What is 2 + 3?") == "5"
        wrong = {"model": "absent", "fault": None}
        assert (await http.post("/control/fault", json=wrong)).status_code == 400


async def test_a_wrong_key_is_refused_and_none_is_kept() -> None:
    """With a key set, only that key is served; neither key is in a repr or in the books."""
    async with LocalProvider(MODELS, api_key=KEY) as provider:
        async with client_of(provider.base_url, "sk-wrong-1234") as client:
            with pytest.raises(openai.AuthenticationError) as caught:
                await said(client, "What is 2 + 3?")
            with pytest.raises(openai.AuthenticationError):
                await client.models.list()
        async with client_of(provider.base_url, KEY) as client:
            assert await said(client, "What is 2 + 3?") == "5"
        shown = repr(provider) + str(provider.requests) + str(caught.value.body)
        assert [row.status for row in provider.requests] == [401, 200]
        assert all(row.has_authorization for row in provider.requests)
    assert KEY not in shown
    assert "sk-wrong" not in shown


# Models as JSON.


def test_a_model_is_read_from_json() -> None:
    """Every field that JSON can hold is read: ranges, skills and faults among them."""
    fields: dict[str, Any] = {
        "name": "m",
        "input_usd_per_mtok": 1.5,
        "skill": {"units": 0.5},
        "output_tokens": [5, 9],
        "fault": {"kind": "rate_limited", "retry_after_s": 2.0},
    }
    assert model_from(fields) == SimulatedModel(
        "m",
        1.5,
        skill={"units": 0.5},
        output_tokens=(5, 9),
        fault=Fault(FaultKind.RATE_LIMITED, retry_after_s=2.0),
    )
    assert model_from(MODELS[0]) is MODELS[0]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"name": "m", "price": 3.0},
        {"name": "m", "fault": {"why": "x"}},
        {"name": "m", "skill": 2},
    ],
)
def test_json_that_is_no_model_is_refused(fields: dict[str, Any]) -> None:
    """Missing names, unknown fields and impossible values are errors."""
    with pytest.raises((ConfigurationError, InvalidInput)):
        model_from(fields)
