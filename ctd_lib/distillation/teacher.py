"""What a teacher says of a batch, computed there and then or read from disk.

The outputs of a fixed teacher on fixed batches are the same for every student. Written once, they
spare each further student the teacher's forward and the logits of its head. What is masked depends
on the seed and the number of a batch alone, so that the outputs fit any student that is given the
same batches.
"""

import bisect
import copy
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from ctd_lib import models
from ctd_lib.errors import CtdError
from ctd_lib.losses import CHUNK
from ctd_lib.soft_targets import AllTargets, SoftTargets, TopTargets
from ctd_lib.training import loop as train
from ctd_lib.training.masking import MaskedBatches

INDEX = "index.json"
FILE_BYTES = 2**28  # outputs that are gathered in memory for one file
IDS_OF_BATCH = "input_ids"
HIDDEN, IDS, PROBABILITIES = "teacher_hidden", "teacher_ids", "teacher_probabilities"


@dataclass(frozen=True)
class Outputs:
    """Of one batch, without gradients."""

    layers: tuple[Tensor, ...]
    """Hidden states after each layer, or after the last one only, each (B, T, C)."""
    targets: SoftTargets


def frozen(teacher: PreTrainedModel, precision: str) -> PreTrainedModel:
    """A twin that is only asked; with "bfloat16" its weights are bfloat16 too.

    Weights that have their dtype already are shared, not copied.
    """
    dtype = torch.bfloat16 if precision == "bfloat16" else None
    shared: dict[int, object] = {id(buffer): buffer for buffer in teacher.buffers()}
    for weight in teacher.parameters():
        shared[id(weight)] = nn.Parameter(weight.detach().to(dtype=dtype), requires_grad=False)
    return copy.deepcopy(teacher, shared).eval()


def outputs(teacher: PreTrainedModel, batch: train.Batch, all_layers: bool = False) -> Outputs:
    """The teacher's outputs on the masked text of a batch."""
    with torch.no_grad():
        found = models.encoder(teacher)(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            output_hidden_states=all_layers,
        )
    last = found.last_hidden_state
    layers = (*found.hidden_states[1:-1], last) if all_layers else (last,)
    return Outputs(layers, AllTargets(last, models.lm_head(teacher)))


def cached_outputs(batch: train.Batch) -> Outputs:
    """The outputs that travel with a batch of `Cache.join`."""
    return Outputs((batch[HIDDEN],), TopTargets(batch[IDS], batch[PROBABILITIES]))


@torch.inference_mode()
def write(
    teacher: PreTrainedModel,
    masked: Iterable[train.Batch],
    folder: Path,
    *,
    top_k: int,
    temperature: float,
    precision: str = "float32",
) -> "Cache":
    """Run the teacher over batches and keep what it says of each.

    Of every token the last hidden state in bfloat16, 2 C bytes, and the k most probable tokens of
    the soft targets, 8 k bytes: 1.6 kB at width 768 and k = 8, or 6.6 MB for 4096 tokens. Only k =
    vocabulary keeps the soft targets whole; `TopTargets` says what the student gets from fewer.

    Args:
        masked: the first batches of `masking.masked_batches`, as many as are to be kept.
        folder: gets files of about 256 MiB, and an index.
        top_k: k.
        temperature: that of the distillation; the probabilities are softened with it.
        precision: as in `train.fit`.

    Raises:
        CtdError: k is not in the vocabulary.
    """
    require_top_k(top_k, teacher.config.vocab_size)
    teacher, device = frozen(teacher, precision), next(teacher.parameters()).device
    waiting: dict[str, Tensor] = {}
    firsts, count = [0], 0
    for count, batch in enumerate(masked, 1):
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        with train.autocast(device, precision):
            found = outputs(teacher, batch)
            ids, probabilities = _top(found, models.lm_head(teacher), top_k, temperature)
        waiting |= {
            f"{count - 1}.{IDS_OF_BATCH}": batch["input_ids"].int().cpu(),
            f"{count - 1}.{HIDDEN}": found.layers[-1].bfloat16().contiguous().cpu(),
            f"{count - 1}.{IDS}": ids.int().cpu(),
            f"{count - 1}.{PROBABILITIES}": probabilities.cpu(),
        }
        if sum(tensor.nbytes for tensor in waiting.values()) >= FILE_BYTES:
            save_file(waiting, folder / _file(firsts[-1]))
            firsts.append(count)
            waiting = {}
    if waiting:
        save_file(waiting, folder / _file(firsts[-1]))
    sizes = {name: getattr(teacher.config, name) for name in ("hidden_size", "vocab_size")}
    index = {"files": firsts, "batches": count, "temperature": temperature} | sizes
    (folder / INDEX).write_text(json.dumps(index))
    return Cache(folder)


def require_top_k(top_k: int, vocab_size: int) -> None:
    """Refuse more soft targets a token than there are tokens, or none."""
    if not 1 <= top_k <= vocab_size:
        raise CtdError(f"teacher_top_k is {top_k}; it is 1 to {vocab_size}.")


def _top(found: Outputs, head, top_k: int, temperature: float) -> tuple[Tensor, Tensor]:
    """Ids and probabilities (B, T, k), the logits of some tokens at a time."""
    hidden = found.layers[-1]
    parts = [
        F.softmax(head(part).float() / temperature, dim=-1).topk(top_k)
        for part in hidden.flatten(0, 1).split(CHUNK)
    ]
    ids = torch.cat([part.indices for part in parts])
    probabilities = torch.cat([part.values for part in parts])
    return tuple(x.view(*hidden.shape[:2], top_k) for x in (ids, probabilities))


class Cache:
    """Outputs of a teacher on disk.

    Raises:
        CtdError: the folder holds none.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        try:
            index = json.loads((folder / INDEX).read_text())
        except (OSError, ValueError) as error:
            raise CtdError(f"{folder} holds no outputs of a teacher: {error}.") from error
        self.files, self.batches = index["files"], index["batches"]
        self.temperature = index["temperature"]
        self.hidden_size, self.vocab_size = index["hidden_size"], index["vocab_size"]

    def join(self, masked: MaskedBatches) -> "JoinedBatches":
        """The same masked batches as in `write`, each with the teacher's outputs."""
        return JoinedBatches(masked, self)

    def read(self, number: int, input_ids: Tensor) -> train.Batch:
        """The outputs of batch `number`, which has these ids.

        Raises:
            CtdError: there is no such batch, it has other ids, or its file cannot be read.
        """
        if number >= self.batches:
            raise CtdError(f"the teacher's outputs end after {self.batches} batches.")
        path = self.folder / _file(self.files[bisect.bisect_right(self.files, number) - 1])
        try:
            with safe_open(path, "pt") as file:
                names = (IDS_OF_BATCH, HIDDEN, IDS, PROBABILITIES)
                found = {name: file.get_tensor(f"{number}.{name}") for name in names}
        except (OSError, SafetensorError) as error:
            raise CtdError(f"{path} cannot be read: {error}.") from error
        if not torch.equal(found.pop(IDS_OF_BATCH), input_ids.int().cpu()):
            raise CtdError(f"batch {number} is not the one that the teacher's outputs are of.")
        return found


class JoinedBatches:
    """See `Cache.join`; its place is that of the masked batches."""

    def __init__(self, masked: MaskedBatches, cache: Cache):
        self.masked, self.cache = masked, cache

    def __iter__(self) -> Iterator[train.Batch]:
        for batch in self.masked:
            yield batch | self.cache.read(self.masked.index - 1, batch["input_ids"])

    def state_dict(self) -> dict:
        """As `masking.MaskedBatches`."""
        return self.masked.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """As `masking.MaskedBatches`."""
        self.masked.load_state_dict(state)


def _file(first: int) -> str:
    return f"outputs-{first:08}.safetensors"
