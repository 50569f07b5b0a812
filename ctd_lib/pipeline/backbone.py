"""The pretrained encoder that everything begins with."""

from pathlib import Path

from transformers import PreTrainedConfig

from ctd_lib import models, params, runtime
from ctd_lib import pretrain as pretraining
from ctd_lib.data import sources
from ctd_lib.pipeline.common import get_or_make, precision, training, without_means
from ctd_lib.pipeline.text import Text, contents
from ctd_lib.store import Artifact

HEAD_LENGTH = 128
HEAD_BATCH_SIZE = 8


def config_of(p: params.BackboneParams) -> PreTrainedConfig:
    """The backbone's configuration, to check parameters by before anything is trained."""
    return models.read_backbone_config(sources.backbone(p.backbone).path)


def backbone(p: params.BackboneParams) -> Artifact:
    """The pretrained encoder with a masked-LM head, trained here if its checkpoint has none."""
    source = sources.backbone(p.backbone)
    settings = without_means(params.own(p, params.BackboneParams)) | {
        "content": source.digest, "text": contents(p.head_corpora),
    }  # fmt: skip

    def make(folder: Path) -> dict:
        found = models.load_backbone(source.path)
        model = found.model.to(runtime.device(p.device))
        values = {"family": found.family, "had_lm_head": found.has_lm_head}
        if not found.has_lm_head:
            text = Text(
                p.head_corpora, found.tokenizer, min(HEAD_LENGTH, models.max_length(model.config))
            )
            runtime.keep_freed_memory()
            log = pretraining.train_lm_head(
                model, text.batches(HEAD_BATCH_SIZE, p.seed), found.tokenizer, steps=p.head_steps,
                seed=p.seed, **training(p, folder),
            )  # fmt: skip
            loss = text.evaluate(model, precision(p))
            values |= {"mlm_loss": loss, "tokens": log.tokens, "precision": precision(p)}
        models.save(model, found.tokenizer, folder)
        return values

    label = p.backbone.split(":")[-1].rstrip("/").split("/")[-1]
    return get_or_make("backbone", label, settings, [], p.seed, make)
