"""Judge routing on your own table: every model's quality and cost for each of your prompts."""

import numpy as np

from conduit import ModelArm
from conduit.evaluation.replay import ReplayTable, replay

rng = np.random.default_rng(0)
topics = rng.integers(2, size=600)
texts = [
    f"{('solve the equation', 'write a poem about')[t]} number {i}" for i, t in enumerate(topics)
]
skill = np.where(topics[:, None] == 0, [0.9, 0.4], [0.4, 0.9])

table = ReplayTable(
    models=[ModelArm("mathematician"), ModelArm("poet")],
    texts=texts,
    quality=rng.random((600, 2)) < skill,
    cost_usd=np.tile([0.001, 0.002], (600, 1)),
)
for policy in ("contextual_thompson", "thompson", "random"):
    print(replay(table, policy=policy, cost_weight=0.1, orders=3).summary())

# contextual_thompson: quality 0.8061 ± 0.0275, $0.00139 per query
#   after 100: utility 0.5807 ± 0.0106, regret -0.4000 ± 1.8536
#   after 500: utility 0.7219 ± 0.0294, regret -59.3000 ± 14.0793
#   after 600: utility 0.7364 ± 0.0251, regret -79.8500 ± 15.0340
#   best single model (in hindsight): poet, utility 0.6033, quality 0.7033, $0.002
#   best static mix at the same cost: quality 0.6508
# thompson: quality 0.6822 ± 0.0120, $0.0018 per query
#   …
# random: quality 0.6672 ± 0.0179, $0.00151 per query
#   …
