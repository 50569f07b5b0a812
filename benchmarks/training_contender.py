"""One contender of benchmarks/training.py: a process in the midst of a training.

The first line it reads is what to train; each further one, {"memory": false}, asks for one step. It
answers each with a line of JSON.
"""

import contextlib
import json
import sys
import time
from types import SimpleNamespace

import torch
import torch.nn.functional as F
import transformers
from contender import DTYPES, Memory, prepare

from ctd_lib import attention, distill
from ctd_lib.distillation.student import layer_map, student_from_teacher
from ctd_lib.distillation.teacher import frozen
from ctd_lib.training.masking import masked_batches

STEPS = 10**6  # of the schedule; nobody asks for so many


class Tokenizer:
    """All that masking asks of a tokenizer."""

    all_special_ids: tuple[int, ...] = (0, 1, 2, 3, 4)
    mask_token_id = 4

    def __init__(self, size: int):
        self.size = size

    def __len__(self):
        return self.size


def build(given) -> transformers.PreTrainedModel:
    """The teacher, with the same random weights for both contenders."""
    torch.manual_seed(0)
    shape = dict(
        hidden_size=given.hidden_size, num_hidden_layers=given.layers,
        num_attention_heads=given.heads, intermediate_size=4 * given.hidden_size,
        vocab_size=given.vocabulary, pad_token_id=1, sep_token_id=2,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    if given.arch == "full":
        positions = {"max_position_embeddings": given.length + 2}
        config = transformers.RobertaConfig(**shape, **positions)
        if given.kind == "plain":
            config._attn_implementation = "eager"
        return transformers.RobertaForMaskedLM(config)
    if given.arch == "longformer":
        positions = {"max_position_embeddings": given.length + 2, "attention_window": 512}
        return transformers.LongformerForMaskedLM(
            transformers.LongformerConfig(**shape, **positions)
        )
    positions = {"max_position_embeddings": given.length}
    if given.arch == "bigbird":
        return transformers.BigBirdForMaskedLM(transformers.BigBirdConfig(**shape, **positions))
    return transformers.NystromformerForMaskedLM(
        transformers.NystromformerConfig(**shape, **positions)
    )


def plain_loop(student, teacher, batches, dtype: torch.dtype) -> None:
    """Distillation as one would write it with transformers and torch alone."""
    optimizer = torch.optim.AdamW(
        student.parameters(), lr=5e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01
    )
    teacher.eval().requires_grad_(False)
    student.train()
    for batch in batches:
        batch = {name: x.to(student.device) for name, x in batch.items()}
        labels = batch.pop("labels")
        with torch.autocast(student.device.type, dtype, enabled=dtype != torch.float32):
            with torch.no_grad():
                theirs = teacher(**batch, output_hidden_states=True)
            ours = student(**batch, output_hidden_states=True)
            mask = batch["attention_mask"].bool()
            mlm = F.cross_entropy(ours.logits.flatten(0, 1).float(), labels.flatten())
            soft = 4 * F.kl_div(
                F.log_softmax(ours.logits[mask].float() / 2, dim=-1),
                F.softmax(theirs.logits[mask].float() / 2, dim=-1),
                reduction="batchmean",
            )
            hidden = (ours.hidden_states[-1][mask], theirs.hidden_states[-1][mask])
            cosine = 1 - F.cosine_similarity(*hidden, dim=-1).mean()
            loss = 2 * mlm + 5 * soft + cosine
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()


def requests(given):
    """The batch of each step, as it is asked for; when the loop comes back the step is done."""
    generator = torch.Generator().manual_seed(0)
    for line in sys.stdin:
        meter = Memory(given.device) if json.loads(line)["memory"] else contextlib.nullcontext()
        with meter:
            started = time.perf_counter()
            shape = (given.batch_size, given.length)
            ids = torch.randint(5, given.vocabulary, shape, generator=generator)
            yield {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            if given.device == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - started
        extra = getattr(meter, "extra", None)
        peak = None if extra is None else meter.before + extra
        print(json.dumps({"seconds": seconds, "extra_bytes": extra, "peak_bytes": peak}),
              flush=True)  # fmt: skip


def main():
    given = SimpleNamespace(**json.loads(sys.stdin.readline()))
    try:
        teacher = build(given).to(given.device)
        if given.kind == "ours":
            attention.install(teacher)
        student = student_from_teacher(teacher, layer_map(given.layers, given.layers // 2))
        if given.kind == "plain":
            prepare(teacher, given.length)
            prepare(student, given.length)
        tokenizer = Tokenizer(given.vocabulary)
        if given.kind == "ours":
            teacher = frozen(teacher, given.dtype)
        print(json.dumps({"ready": True}), flush=True)
        if given.kind == "ours":
            distill.distill(
                student, teacher, requests(given), tokenizer, steps=STEPS, precision=given.dtype
            )
        else:
            batches = masked_batches(requests(given), tokenizer)
            plain_loop(student, teacher, batches, DTYPES[given.dtype])
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"[:300]}), flush=True)


if __name__ == "__main__":
    main()
