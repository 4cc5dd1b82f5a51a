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

# contextual_thompson: quality 0.7950 ± 0.0495, $0.00164 per query
#   after 100: utility 0.5815 ± 0.0203, regret -0.4833 ± 1.4214
#   after 500: utility 0.7088 ± 0.0572, regret -52.7167 ± 29.2524
#   after 600: utility 0.7131 ± 0.0576, regret -65.8333 ± 34.5609
#   best single model (in hindsight): poet, utility 0.6033, quality 0.7033, $0.002
#   best static mix at the same cost: quality 0.6720
# thompson: quality 0.6806 ± 0.0113, $0.0018 per query
#   …
# random: quality 0.6672 ± 0.0179, $0.00151 per query
#   …
