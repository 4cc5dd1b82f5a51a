"""Five lines: which model would answer, and why."""

import asyncio

from conduit import Query, Router

print(asyncio.run(Router().route(Query(text="What is 2+2?"))).reasoning)

# … is expected to reach quality 0.78 ± 0.15 for $0.00074; the best of 5 with probability 0.26;
# no provider key was found, so this is the default pool
