"""The converted teacher, pretrained further."""

from pathlib import Path

from ctd_lib import models, params, runtime
from ctd_lib import pretrain as pretraining
from ctd_lib.pipeline.common import (
    costs,
    full_training,
    get_or_make,
    precision,
    record,
    updates_of,
)
from ctd_lib.pipeline.convert import convert
from ctd_lib.pipeline.text import Text, check, contents
from ctd_lib.store import Artifact


def pretrain(p: params.PretrainParams) -> Artifact:
    """The converted teacher, pretrained further at full length.

    Raises:
        CtdError: as `text.check`, before anything is trained.
    """
    check(p.corpora)
    artifact = pretrained(p, convert(p))
    record("pretrain", p, artifact)
    return artifact


def pretrained(p: params.PretrainParams, upstream: Artifact) -> Artifact:
    """`upstream` pretrained further; writes no record."""
    settings = params.own(p, params.PretrainParams) | updates_of(p) | {"text": contents(p.corpora)}

    def make(folder: Path) -> dict:
        model = models.load(upstream.path).to(runtime.device(p.device))
        tokenizer = models.load_tokenizer(upstream.path)
        text = Text(p.corpora, tokenizer, p.max_length)
        before = text.evaluate(model, precision(p))
        log = pretraining.pretrain(
            model, text.batches(p.batch_size, p.seed, p.cross_documents), tokenizer,
            steps=p.pretrain_steps, lr=p.pretrain_learning_rate, seed=p.seed,
            **full_training(p, folder, lambda: text.evaluate(model, precision(p))),
        )  # fmt: skip
        models.save(model, tokenizer, folder)
        return {
            "precision": precision(p),
            "mlm_loss_before": before,
            "mlm_loss_after": text.evaluate(model, precision(p)),
        } | costs(log)

    return get_or_make("pretrain", p.arch, settings, [upstream], p.seed, make)
