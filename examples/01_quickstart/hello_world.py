"""Five lines: which model would answer, and why."""

import asyncio

from conduit import Query, Router

print(asyncio.run(Router().route(Query(text="What is 2+2?"))).reasoning)

# openai:gpt-6-luna is expected to reach quality 0.78 ± 0.27 for $0.00074; the best of 5 with
# probability 0.24; no provider key was found, so this is the default pool
