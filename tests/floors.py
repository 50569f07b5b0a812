"""Sanity floors: the packaged encoder, full attention, seed 0, on real local data (CTD_DATA).

`python tests/floors.py TASK` finetunes it and exits with 1 where the score is below the floor. Each
takes minutes to an hour on two cores, so that no test runs them.
"""

import sys
from typing import NamedTuple

from ctd_lib import finetune, models, runtime, tasks
from ctd_lib.data import packaged


class Floor(NamedTuple):
    metric: str
    score: float
    train_examples: int | None
    epochs: int
    batch_size: int
    lr: float
    context: str | None = None
    precision: str = "float32"


FLOORS = {
    "sst2": Floor("accuracy", 0.83, 10_000, 2, 16, 1e-4),
    "stsb": Floor("spearman", 0.82, None, 3, 16, 1e-4),
    "mrpc": Floor("accuracy", 0.76, None, 4, 16, 1e-4),
    "wikigold": Floor("entity_f1", 0.65, None, 6, 16, 2e-4, "sentence"),
    "squad": Floor("f1", 0.55, None, 2, 12, 2e-4, precision="bfloat16"),
}


def run(name: str) -> bool:
    """Finetune and say how far the score is from its floor."""
    floor = FLOORS[name]
    runtime.seed_everything(0)
    data = tasks.load(name, train_examples=floor.train_examples, context=floor.context)
    outputs = {"num_labels": len(data.labels) or 1} if data.family != "span-qa" else {}
    folder = packaged.folder("minilm-l6")
    model = models.load(folder, tasks.family(data).HEAD, **outputs).to(runtime.device())
    result = finetune.finetune(
        model, data, models.load_tokenizer(folder), epochs=floor.epochs, lr=floor.lr,
        batch_size=floor.batch_size, max_length=data.max_length, precision=floor.precision,
    )  # fmt: skip
    found = result.scores[floor.metric]
    print(f"{name} from {data.source}: {floor.metric} {found:.4f}, floor {floor.score}")
    print(f"{result.log.seconds:.0f} s; {result.counts}; {result.upper_bounds}")
    return found >= floor.score


if __name__ == "__main__":
    if sys.argv[1:2] not in ([name] for name in FLOORS):
        sys.exit(f"usage: python tests/floors.py {'|'.join(FLOORS)}")
    sys.exit(not run(sys.argv[1]))
