"""What OpenTelemetry is told of decisions and calls, read back through its in-process exporters."""

from __future__ import annotations

import subprocess
import sys

import pytest

from conduit import Router, telemetry
from conduit.core.models import Query, Response
from conduit.engines.executor.chain import AttemptRecord

sdk = pytest.importorskip("opentelemetry.sdk")

SECRET = "the prompt that nobody may read"


@pytest.fixture(scope="module")
def spans() -> object:
    """Return an exporter that keeps the spans; the application's part of the set-up."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    telemetry._instruments.cache_clear()
    return exporter


async def test_a_request_is_a_span_with_its_decision_and_its_attempts(spans: object) -> None:
    """Model, propensity, confidence, cost and tokens are there; no word of the prompt is."""
    async with Router(models=["a", "b"]) as router:
        with telemetry.route_span():
            decision = await router.route(Query(text=SECRET, user_id="u-secret"))
            telemetry.decided(decision, 0.001)
            response = Response(
                model="a", text=SECRET, cost_usd=0.5, input_tokens=3, output_tokens=4
            )
            telemetry.attempted(AttemptRecord(model="a", response=response, latency_s=0.2))
            telemetry.attempted(
                AttemptRecord(model="b", response=None, latency_s=0.1, failure="timeout")
            )
    found = {s.name: s for s in spans.get_finished_spans()}  # type: ignore[attr-defined]
    assert set(found) == {"conduit.complete", "conduit.route", "conduit.attempt"}
    attempts = [s for s in spans.get_finished_spans() if s.name == "conduit.attempt"]  # type: ignore[attr-defined]
    answered, failed = attempts
    assert found["conduit.route"].attributes["conduit.model"] == decision.selected_model
    assert found["conduit.route"].attributes["conduit.propensity"] == decision.propensity
    assert answered.attributes["conduit.cost_usd"] == 0.5
    assert answered.attributes["gen_ai.usage.output_tokens"] == 4
    assert answered.end_time - answered.start_time == pytest.approx(0.2e9)
    assert "conduit.cost_usd" not in failed.attributes
    assert not failed.status.is_ok
    assert {s.parent.span_id for s in attempts} == {found["conduit.complete"].context.span_id}
    written = "".join(s.to_json() for s in spans.get_finished_spans())  # type: ignore[attr-defined]
    assert SECRET not in written
    assert "u-secret" not in written


def test_without_the_library_nothing_is_told_and_nothing_fails() -> None:
    """Where the extra is not installed, every call is without effect."""
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from conduit import telemetry\n"
        "from conduit.engines.executor.chain import AttemptRecord\n"
        "with telemetry.route_span():\n"
        "    telemetry.attempted(AttemptRecord(model='a', response=None, latency_s=0.1))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
