"""What training costs beside its steps: the next batch of text, and taking up a checkpoint.

    python benchmarks/overheads.py --output overheads.json
    python benchmarks/overheads.py --hidden-size 384 --layers 3 --vocabulary 30522

A batch is packed and masked text of one full sequence, from documents that are tokenised and kept,
and from the same documents tokenised as they come (`streamed`). A checkpoint holds weights,
AdamW's moments, log and random state of a student of the given shape; taking it up is all that
stands between a process that is ready to train and its next step.
"""

import argparse
import functools
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from transformers import RobertaConfig, RobertaForMaskedLM

from ctd_lib import models, runtime
from ctd_lib.data import corpora, packaged, streams, texts
from ctd_lib.training.masking import masked_batches
from ctd_lib.training.resume import Progress

BACKBONE, CORPUS = "minilm-l6", "packaged:wiki-intros"


def data_rows(length: int, repeats: int) -> list[dict]:
    """Seconds a batch of one sequence, of text that is kept and of text that is streamed."""
    tokenizer = models.load_tokenizer(packaged.folder(BACKBONE))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "documents.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts.texts(CORPUS)))
        streamed = streams.Stream(texts.parse(str(path)), tokenizer)
        kept = corpora.tokenize_corpus(CORPUS, tokenizer)
        for what, corpus in (("kept", kept), ("streamed", streamed)):
            packed = corpora.PackedBatches(
                {CORPUS: 1.0}, tokenizer, length, 1, open_corpus=lambda _, found=corpus: found
            )
            batches = iter(masked_batches(packed, tokenizer, 0.15, 0))
            seconds = [_timed(functools.partial(next, batches)) for _ in range(repeats)]
            rows.append({"what": f"batch, {what}", "length": length} | _summary(seconds))
    return rows


def resume_row(args) -> dict:
    """Seconds to take up a checkpoint of a student, and to write it."""
    config = RobertaConfig(
        vocab_size=args.vocabulary, hidden_size=args.hidden_size, num_hidden_layers=args.layers,
        num_attention_heads=12, intermediate_size=4 * args.hidden_size,
        max_position_embeddings=args.length + 2,
    )  # fmt: skip
    model = RobertaForMaskedLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    progress = functools.partial(Progress, model, optimizer, scaler)
    with tempfile.TemporaryDirectory() as folder:
        written = _timed(lambda: progress([]).save(Path(folder)))
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        seconds = [_timed(lambda: progress([]).restore(Path(folder))) for _ in range(args.resumes)]
    return {
        "what": "resume", "parameters": sum(p.numel() for p in model.parameters()),
        "bytes": size, "seconds_to_write": written,
    } | _summary(seconds)  # fmt: skip


def _timed(act) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def _summary(seconds: list[float]) -> dict:
    return {
        "mean": statistics.mean(seconds), "median": statistics.median(seconds),
        "highest": max(seconds), "times": len(seconds),
    }  # fmt: skip


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--hidden-size", type=int, default=768)
    parser.add_argument("--layers", type=int, default=6, help="of the student")
    parser.add_argument("--vocabulary", type=int, default=50265)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--resumes", type=int, default=5)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    return parser.parse_args()


def main():
    args, started = arguments(), time.perf_counter()
    rows = [*data_rows(args.length, args.batches), resume_row(args)]
    for row in rows:
        print(json.dumps(row))
    if args.output:
        provenance = runtime.provenance(time.perf_counter() - started)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps({"provenance": provenance, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
