"""What OpenTelemetry is told of decisions and calls, read back through its in-process exporters."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from conduit import AllModelsFailed, ModelArm, ProviderError, Router, telemetry
from conduit.core.models import Query, Response
from conduit.engines.executor.base import Answer, FunctionExecutor
from conduit.service import Service

pytest.importorskip("opentelemetry.sdk")

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

SECRET = "the prompt that nobody may read"
MODELS = [ModelArm("acme:broken", quality=0.9), ModelArm("acme:works", quality=0.5)]


@pytest.fixture(scope="module")
def telling() -> tuple[InMemorySpanExporter, InMemoryMetricReader]:
    """Return what keeps spans and metrics: the application's part of the set-up, once a process."""
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([reader]))
    return exporter, reader


@pytest.fixture
def spans(telling: tuple[InMemorySpanExporter, Any]) -> Iterator[InMemorySpanExporter]:
    """Return the exporter, empty."""
    telling[0].clear()
    yield telling[0]
    telemetry.record_prompts(False)


def answer(model: str, prompt: str) -> Answer[str]:
    """Let one model be down and the other answer, at a known price."""
    if model == "acme:broken":
        raise ProviderError("acme:broken failed on its side", model=model, kind="server_error")
    response = Response(model=model, text=prompt, cost_usd=0.5, input_tokens=3, output_tokens=4)
    return Answer(data=prompt, response=response)


def service() -> Service:
    """Return a service whose best model is down."""
    return Service(Router(MODELS, seed=1, floor=0.0), FunctionExecutor(answer))


async def test_a_request_is_a_span_with_its_decision_and_its_attempts(
    spans: InMemorySpanExporter,
) -> None:
    """Model, propensity, confidence, cost and tokens are there; no word of the prompt is."""
    async with service() as serving:
        result = await serving.complete(SECRET, user_id="u-secret")
    told = spans.get_finished_spans()
    assert sorted(s.name for s in told) == [
        "conduit.attempt", "conduit.attempt", "conduit.complete", "conduit.route",
    ]  # fmt: skip
    by_name = {s.name: s for s in told}
    routed = by_name["conduit.route"].attributes or {}
    assert routed["conduit.model"] == "acme:broken"
    assert routed["conduit.decision.id"] == result.decision.id
    assert routed["conduit.propensity"] == result.decision.propensity
    assert routed["conduit.confidence"] == result.decision.confidence
    failed, answered = (s for s in told if s.name == "conduit.attempt")
    assert (failed.attributes or {})["conduit.failure"] == "server_error"
    assert not failed.status.is_ok
    said = answered.attributes or {}
    assert (said["conduit.model"], said["conduit.cost_usd"]) == ("acme:works", 0.5)
    assert (said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"]) == (3, 4)
    whole = by_name["conduit.complete"]
    assert (whole.attributes or {})["deployment.environment.name"] == "development"
    assert whole.context is not None
    for span in (failed, answered, by_name["conduit.route"]):
        assert span.parent is not None
        assert span.parent.span_id == whole.context.span_id
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time <= span.end_time
    written = "".join(s.to_json() for s in told)
    assert SECRET not in written
    assert "u-secret" not in written


async def test_a_stream_is_a_request_too(spans: InMemorySpanExporter) -> None:
    """Its attempts are told when the pieces have ended, inside the request's span."""
    async with service() as serving, serving.stream("hello") as stream:
        assert [piece async for piece in stream]
    assert sorted(s.name for s in spans.get_finished_spans())[-2:] == [
        "conduit.complete", "conduit.route",
    ]  # fmt: skip


async def test_a_failed_request_says_what_kind_of_error_it_was(spans: InMemorySpanExporter) -> None:
    """The span of the request fails with the error's name, and without its words."""
    async with Service(Router(MODELS[:1]), FunctionExecutor(answer)) as serving:
        with pytest.raises(AllModelsFailed):
            await serving.complete(SECRET)
    whole = next(s for s in spans.get_finished_spans() if s.name == "conduit.complete")
    assert whole.status.description == "AllModelsFailed"
    assert not whole.events


async def test_the_prompt_is_told_only_to_who_asks(spans: InMemorySpanExporter) -> None:
    """`record_prompts` puts the text into the span of the decision, and takes it out again."""
    async with Router(MODELS) as router:
        telemetry.record_prompts(True)
        await router.route(SECRET)
        telemetry.record_prompts(False)
        router.route_sync(Query(text=SECRET))
    first, second = (s.attributes or {} for s in spans.get_finished_spans())
    assert first["conduit.prompt"] == SECRET
    assert "conduit.prompt" not in second


async def test_metrics_count_what_happened(
    telling: tuple[Any, InMemoryMetricReader], spans: InMemorySpanExporter
) -> None:
    """Decisions, attempts, dollars, tokens and seconds, by model."""
    async with service() as serving:
        await serving.complete("hello")
    data = telling[1].get_metrics_data()
    assert data is not None
    points = {
        (metric.name, (point.attributes or {}).get("conduit.model")): point
        for scope in data.resource_metrics[0].scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }
    for name in ("conduit.attempts", "conduit.cost", "conduit.tokens", "conduit.latency"):
        assert (name, "acme:works") in points
    assert ("conduit.decisions", "acme:broken") in points
    assert ("conduit.cost", "acme:broken") not in points


def test_where_nobody_loaded_the_library_it_is_not_loaded() -> None:
    """Routing loads no OpenTelemetry, and works where there is none."""
    code = (
        "import sys\n"
        "from conduit import Router\n"
        "Router(environ={}).route_sync('hello')\n"
        "assert not [m for m in sys.modules if m.startswith('opentelemetry')]\n"
        "sys.modules['opentelemetry'] = None\n"
        "Router(environ={}).route_sync('hello')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
