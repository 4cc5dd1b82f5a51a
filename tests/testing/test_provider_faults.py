"""Every fault is seen by the real client library as what it claims to be."""

import json
import time
from collections.abc import AsyncIterator, Callable
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from conduit.core.errors import InvalidInput
from conduit.testing.local_provider import Cut, Fault, FaultKind, LocalProvider, SimulatedModel

PROMPT = "What is the capital of Mongolia? [[marker:m1]]"
ANSWER = "Ulaanbaatar [[marker:m1]]"
PATIENCE_S = 20.0  # where nothing is meant to be slow
IMPATIENCE_S = 0.25
SLOW = (FaultKind.SLOW_HEADERS, FaultKind.SLOW_BODY, FaultKind.HANG, FaultKind.HANG_IN_BODY)
K = FaultKind

Seen = type[Exception] | Callable[[Any], object]


@pytest.fixture
async def provider() -> AsyncIterator[LocalProvider]:
    """Serve one model."""
    async with LocalProvider([SimulatedModel("m", 1.0, 2.0)]) as provider:
        yield provider


@pytest.fixture
async def client(provider: LocalProvider) -> AsyncIterator[AsyncOpenAI]:
    """Return the real client without retries, and without certificates, which take time to load."""
    async with AsyncOpenAI(
        base_url=provider.base_url,
        api_key="local",
        max_retries=0,
        timeout=PATIENCE_S,
        http_client=httpx.AsyncClient(verify=False),
    ) as client:
        yield client


def patience_s(fault: Fault, expected: "Seen") -> float:
    """Return how long to wait for an answer: briefly for one that is meant to come too late."""
    return IMPATIENCE_S if fault.kind in SLOW and isinstance(expected, type) else PATIENCE_S


async def ask(client: AsyncOpenAI) -> Any:
    """Ask for an answer in one piece."""
    return await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": PROMPT}]
    )


async def ask_streaming(client: AsyncOpenAI) -> list[Any]:
    """Ask for a stream, and return its chunks."""
    stream = await client.chat.completions.create(
        model="m",
        messages=[{"role": "user", "content": PROMPT}],
        stream=True,
        stream_options={"include_usage": True},
    )
    return [chunk async for chunk in stream]


def text_of(chunks: list[Any]) -> str:
    """Return the text that a stream's chunks make."""
    deltas = (chunk.choices[0].delta.content for chunk in chunks if chunk.choices)
    return "".join(delta or "" for delta in deltas)


def finish_of(chunks: list[Any]) -> str | None:
    """Return the reason for which a stream ended, if it said one."""
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    return next((reason for reason in reasons if reason), None)


WHOLE: list[tuple[Fault, Seen]] = [
    (Fault(K.RATE_LIMITED), openai.RateLimitError),
    (Fault(K.SERVER_ERROR), openai.InternalServerError),
    (Fault(K.UNAVAILABLE), openai.InternalServerError),
    (Fault(K.UNAUTHORIZED), openai.AuthenticationError),
    (Fault(K.CONTEXT_TOO_LONG), openai.BadRequestError),
    (Fault(K.SLOW_HEADERS, delay_s=2.0), openai.APITimeoutError),
    (Fault(K.SLOW_HEADERS, delay_s=0.05), lambda r: r.choices[0].message.content == ANSWER),
    (Fault(K.SLOW_BODY, delay_s=2.0), openai.APITimeoutError),
    (Fault(K.SLOW_BODY, delay_s=0.01), lambda r: r.choices[0].message.content == ANSWER),
    (Fault(K.HANG), openai.APITimeoutError),
    (Fault(K.HANG_IN_BODY), openai.APITimeoutError),
    (Fault(K.CUT_AT_ONCE), openai.APIConnectionError),
    (Fault(K.CUT_AT_ONCE, cut="reset"), openai.APIConnectionError),
    (Fault(K.CUT_BEFORE_FIRST_TOKEN), openai.APIConnectionError),
    (Fault(K.CUT_BEFORE_FIRST_TOKEN, cut="reset"), openai.APIConnectionError),
    (Fault(K.CUT_BEFORE_FIRST_TOKEN, cut="end"), json.JSONDecodeError),
    (Fault(K.CUT_AFTER_FIRST_TOKEN), openai.APIConnectionError),
    (Fault(K.CUT_AFTER_FIRST_TOKEN, cut="reset"), openai.APIConnectionError),
    (Fault(K.CUT_AFTER_FIRST_TOKEN, cut="end"), json.JSONDecodeError),
    (Fault(K.HTML), lambda r: isinstance(r, str) and r.startswith("<!doctype html>")),
    (Fault(K.HTML, status=502), openai.InternalServerError),
    (Fault(K.EMPTY_BODY), json.JSONDecodeError),
    (Fault(K.TRUNCATED_JSON), json.JSONDecodeError),
    (Fault(K.WRONG_SCHEMA), lambda r: r.choices is None and r.status == "ok"),
    (Fault(K.NO_CHOICES), lambda r: r.choices == [] and r.usage.completion_tokens > 0),
    (Fault(K.NULL_CONTENT), lambda r: r.choices[0].message.content is None),
    (Fault(K.ERROR_IN_BODY), lambda r: r.choices is None and r.error["code"] == "server_error"),
    (Fault(K.NO_USAGE), lambda r: r.usage is None and r.choices[0].message.content == ANSWER),
    (Fault(K.NEGATIVE_USAGE), lambda r: r.usage.prompt_tokens < 0 > r.usage.completion_tokens),
    (Fault(K.CONTENT_FILTER), lambda r: r.choices[0].finish_reason == "content_filter"),
    (
        Fault(K.LENGTH),
        lambda r: r.choices[0].finish_reason == "length" and r.choices[0].message.content in ANSWER,
    ),
]
STREAMED: list[tuple[Fault, Seen]] = [
    (Fault(K.RATE_LIMITED), openai.RateLimitError),
    (Fault(K.SERVER_ERROR), openai.InternalServerError),
    (Fault(K.UNAVAILABLE), openai.InternalServerError),
    (Fault(K.UNAUTHORIZED), openai.AuthenticationError),
    (Fault(K.CONTEXT_TOO_LONG), openai.BadRequestError),
    (Fault(K.SLOW_HEADERS, delay_s=2.0), openai.APITimeoutError),
    (Fault(K.SLOW_BODY, delay_s=2.0), httpx.ReadTimeout),
    (Fault(K.SLOW_BODY, delay_s=0.01), lambda chunks: text_of(chunks) == ANSWER),
    (Fault(K.HANG), openai.APITimeoutError),
    (Fault(K.HANG_IN_BODY), httpx.ReadTimeout),
    (Fault(K.CUT_AT_ONCE), openai.APIConnectionError),
    (Fault(K.CUT_AT_ONCE, cut="reset"), openai.APIConnectionError),
    (Fault(K.CUT_BEFORE_FIRST_TOKEN), httpx.RemoteProtocolError),
    (Fault(K.CUT_BEFORE_FIRST_TOKEN, cut="reset"), httpx.ReadError),
    (
        Fault(K.CUT_BEFORE_FIRST_TOKEN, cut="end"),
        lambda chunks: len(chunks) == 1 and text_of(chunks) == "" and finish_of(chunks) is None,
    ),
    (Fault(K.CUT_AFTER_FIRST_TOKEN), httpx.RemoteProtocolError),
    (Fault(K.CUT_AFTER_FIRST_TOKEN, cut="reset"), httpx.ReadError),
    (
        Fault(K.CUT_AFTER_FIRST_TOKEN, cut="end"),
        lambda chunks: text_of(chunks) == ANSWER[:4] and finish_of(chunks) is None,
    ),
    (Fault(K.HTML), lambda chunks: chunks == []),
    (Fault(K.EMPTY_BODY), lambda chunks: chunks == []),
    (Fault(K.TRUNCATED_JSON), json.JSONDecodeError),
    (Fault(K.WRONG_SCHEMA), lambda chunks: [chunk.choices for chunk in chunks] == [None]),
    (Fault(K.NO_CHOICES), lambda chunks: all(chunk.choices == [] for chunk in chunks)),
    (Fault(K.NULL_CONTENT), lambda chunks: text_of(chunks) == "" and finish_of(chunks) == "stop"),
    (Fault(K.ERROR_IN_BODY), openai.APIError),
    (
        Fault(K.NO_USAGE),
        lambda chunks: text_of(chunks) == ANSWER and not any(chunk.usage for chunk in chunks),
    ),
    (Fault(K.NEGATIVE_USAGE), lambda chunks: chunks[-1].usage.completion_tokens < 0),
    (Fault(K.CONTENT_FILTER), lambda chunks: finish_of(chunks) == "content_filter"),
    (
        Fault(K.LENGTH),
        lambda chunks: finish_of(chunks) == "length" and ANSWER.startswith(text_of(chunks)),
    ),
]


def name_of(case: object) -> str | None:
    """Name a case by its fault."""
    return f"{case.kind.value}-{case.cut}" if isinstance(case, Fault) else None


async def observe(answer: Any, expected: Seen) -> None:
    """Check that awaiting an answer raises, or returns, what is expected."""
    if isinstance(expected, type):
        with pytest.raises(expected):
            await answer
    else:
        assert expected(await answer)


def test_every_kind_of_fault_is_observed() -> None:
    """No kind is missing from the tables below, for one piece and for streams."""
    for table in (WHOLE, STREAMED):
        assert {fault.kind for fault, _ in table} == set(FaultKind)


@pytest.mark.parametrize(("fault", "expected"), WHOLE, ids=name_of)
async def test_a_fault_of_an_answer(
    provider: LocalProvider, client: AsyncOpenAI, fault: Fault, expected: Seen
) -> None:
    """A client sees the fault, the ledger names it, and the next answer is sound again."""
    provider.set_fault("m", fault)
    impatient = client.with_options(timeout=patience_s(fault, expected))
    await observe(ask(impatient), expected)
    assert provider.requests[0].fault == fault.kind.value
    provider.set_fault("m", None)
    assert (await ask(client)).choices[0].message.content == ANSWER
    assert provider.requests[1].fault is None
    assert (provider.requests[0].usd > 0.0) == fault.is_billed


@pytest.mark.parametrize(("fault", "expected"), STREAMED, ids=name_of)
async def test_a_fault_of_a_stream(
    provider: LocalProvider, client: AsyncOpenAI, fault: Fault, expected: Seen
) -> None:
    """A client sees the fault in a stream too, and the next stream is sound again."""
    provider.set_fault("m", fault)
    impatient = client.with_options(timeout=patience_s(fault, expected))
    await observe(ask_streaming(impatient), expected)
    provider.set_fault("m", None)
    chunks = await ask_streaming(client)
    assert (text_of(chunks), finish_of(chunks)) == (ANSWER, "stop")
    assert [row.fault for row in provider.requests] == [fault.kind.value, None]


def test_only_answers_that_were_made_are_billed() -> None:
    """What the model never began, or what a proxy swallowed, is free; the rest costs money."""
    free = {kind for kind in FaultKind if not Fault(kind).is_billed}
    refused = {K.RATE_LIMITED, K.SERVER_ERROR, K.UNAVAILABLE, K.UNAUTHORIZED, K.CONTEXT_TOO_LONG}
    nothing = {K.HANG, K.CUT_AT_ONCE, K.CUT_BEFORE_FIRST_TOKEN}
    assert free == refused | nothing | {K.HTML, K.EMPTY_BODY, K.WRONG_SCHEMA}


RESPONSES: list[tuple[Fault, Seen, Seen]] = [
    (Fault(K.UNAVAILABLE), openai.InternalServerError, openai.InternalServerError),
    (Fault(K.NO_CHOICES), lambda r: r.output == [], lambda r: r.output == []),
    (Fault(K.NULL_CONTENT), lambda r: r.output_text == "", lambda r: r.output_text == ""),
    (Fault(K.NO_USAGE), lambda r: r.usage is None, lambda r: r.usage is None),
    (
        Fault(K.NEGATIVE_USAGE),
        lambda r: r.usage.output_tokens < 0,
        lambda r: r.usage.output_tokens < 0,
    ),
    (
        Fault(K.LENGTH),
        lambda r: r.incomplete_details.reason == "max_output_tokens",
        lambda r: r.incomplete_details.reason == "max_output_tokens",
    ),
    (
        Fault(K.CONTENT_FILTER),
        lambda r: r.incomplete_details.reason == "content_filter",
        lambda r: r.incomplete_details.reason == "content_filter",
    ),
    (Fault(K.ERROR_IN_BODY), lambda r: r.error.code == "server_error", openai.APIError),
    (Fault(K.TRUNCATED_JSON), json.JSONDecodeError, json.JSONDecodeError),
    (Fault(K.CUT_AFTER_FIRST_TOKEN), openai.APIConnectionError, httpx.RemoteProtocolError),
    (Fault(K.CUT_AFTER_FIRST_TOKEN, cut="reset"), openai.APIConnectionError, httpx.ReadError),
]


@pytest.mark.parametrize(("fault", "whole", "streamed"), RESPONSES, ids=name_of)
async def test_a_fault_of_the_responses_api(
    provider: LocalProvider, client: AsyncOpenAI, fault: Fault, whole: Seen, streamed: Seen
) -> None:
    """The responses API shows the same faults in its own form."""

    async def last_state() -> Any:
        stream = await client.responses.create(model="m", input=PROMPT, stream=True)
        return [event async for event in stream][-1].response  # type: ignore[union-attr]

    provider.set_fault("m", fault)
    await observe(client.responses.create(model="m", input=PROMPT), whole)
    await observe(last_state(), streamed)


@pytest.mark.parametrize("as_date", [False, True])
async def test_retry_after_says_when_to_come_back(
    provider: LocalProvider, client: AsyncOpenAI, as_date: bool
) -> None:
    """A rate limit names its time as seconds or as a date."""
    provider.set_fault("m", Fault(K.RATE_LIMITED, retry_after_s=30, retry_after_as_date=as_date))
    with pytest.raises(openai.RateLimitError) as caught:
        await ask(client)
    value = caught.value.response.headers["retry-after"]
    if as_date:
        named_s = parsedate_to_datetime(value).timestamp() - provider.requests[-1].started_at
        assert named_s == pytest.approx(30, abs=3)
    else:
        assert value == "30"


async def test_a_fault_strikes_only_the_first_requests(
    provider: LocalProvider, client: AsyncOpenAI
) -> None:
    """`first_n` lets a model recover by itself."""
    provider.set_fault("m", Fault(K.SERVER_ERROR, first_n=2))
    for _ in range(2):
        with pytest.raises(openai.InternalServerError):
            await ask(client)
    assert (await ask(client)).choices[0].message.content == ANSWER


async def test_a_fault_ends_with_its_time(provider: LocalProvider, client: AsyncOpenAI) -> None:
    """`lasts_s` lets a model recover after a while."""
    began = time.monotonic()
    provider.set_fault("m", Fault(K.SERVER_ERROR, lasts_s=0.5))
    with pytest.raises(openai.InternalServerError):
        await ask(client)
    while provider.requests[-1].fault is not None and time.monotonic() < began + 30.0:
        await _ask_or_fail(client)
    assert provider.requests[-1].fault is None
    assert time.monotonic() - began >= 0.5


async def _ask_or_fail(client: AsyncOpenAI) -> None:
    try:
        await ask(client)
    except openai.InternalServerError:
        return


async def test_a_fault_strikes_with_its_probability(
    provider: LocalProvider, client: AsyncOpenAI
) -> None:
    """Half of the requests fail at one half, and the same seed strikes the same ones."""
    struck: list[list[bool]] = []
    for _ in range(2):
        provider.set_fault("m", Fault(K.UNAVAILABLE, probability=0.5))
        for _ in range(60):
            await _ask_or_fail(client)
        struck.append([row.fault is not None for row in provider.requests[-60:]])
    assert struck[0] == struck[1]
    assert 18 <= sum(struck[0]) <= 42


@pytest.mark.parametrize("cut", ["reset", "close"])
async def test_a_reset_is_no_polite_close(provider: LocalProvider, cut: Cut) -> None:
    """A reset reaches the socket as one, a close as an end of the bytes."""
    provider.set_fault("m", Fault(K.CUT_AFTER_FIRST_TOKEN, cut=cut))
    expected = httpx.ReadError if cut == "reset" else httpx.RemoteProtocolError
    received: list[bytes] = []
    with pytest.raises(expected):
        await _read_raw(provider.base_url, received)
    assert ANSWER[:4].encode() in b"".join(received)


async def _read_raw(base_url: str, received: list[bytes]) -> None:
    """Read a stream's bytes until it ends or breaks."""
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": PROMPT}]}
    async with (
        httpx.AsyncClient(base_url=base_url) as client,
        client.stream("POST", "/chat/completions", json=body) as response,
    ):
        async for part in response.aiter_bytes():
            received.append(part)


async def test_a_connection_to_the_refused_url_is_refused(provider: LocalProvider) -> None:
    """Nothing listens there, and nobody else can."""
    async with AsyncOpenAI(base_url=provider.refused_url, api_key="local", max_retries=0) as client:
        with pytest.raises(openai.APIConnectionError) as caught:
            await ask(client)
    assert isinstance(caught.value.__cause__, httpx.ConnectError)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "meteor"},
        {"kind": "hang", "probability": 1.5},
        {"kind": "hang", "delay_s": -1.0},
        {"kind": "hang", "cut": "slice"},
    ],
)
def test_a_fault_that_means_nothing_is_refused(fields: dict[str, Any]) -> None:
    """Unknown kinds and impossible numbers are errors at once."""
    with pytest.raises(InvalidInput):
        Fault(**fields)
