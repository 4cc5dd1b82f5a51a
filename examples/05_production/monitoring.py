"""What OpenTelemetry is told, read back in this process (needs `opentelemetry-sdk`)."""

import asyncio

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pool import pool

from conduit import create_service

# Your application sets OpenTelemetry up, once, with the exporter that it uses for everything else.
spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
metrics.set_meter_provider(MeterProvider([reader]))


async def main() -> None:
    """Complete one prompt, and print its spans and what was counted."""
    with pool() as models:
        async with await create_service(
            models=models, database_url="sqlite:///monitoring.db", seed=1
        ) as service:
            await service.complete("What is 3 + 4?")
            print("healthy:", (await service.health()).ok)
    for span in spans.get_finished_spans():
        print(span.name, *(f"{k}={v}" for k, v in span.attributes.items() if not k.endswith("id")))
    for scope in reader.get_metrics_data().resource_metrics[0].scope_metrics:
        for metric in scope.metrics if scope.scope.name == "conduit" else ():
            point = metric.data.data_points[0]
            print(metric.name, getattr(point, "value", None) or point.sum, metric.unit)


asyncio.run(main())

# no provider key is set: simulated models on this machine answer, at no cost
# healthy: True
# conduit.route conduit.router=default conduit.model=sim-… conduit.propensity=0.99
#     conduit.confidence=0.61 conduit.candidates=5 conduit.constraints_relaxed=False
# conduit.attempt conduit.model=sim-… conduit.cost_usd=3e-05
#     gen_ai.usage.input_tokens=8 gen_ai.usage.output_tokens=1
# conduit.complete deployment.environment.name=development
# conduit.decisions 1 1
# conduit.attempts 1 1
# conduit.latency 0.03 s
# conduit.cost 3e-05 USD
# conduit.tokens 8 {token}
