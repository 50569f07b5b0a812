"""LSG models on RoBERTa and BERT: the classes of transformers with LSG attention inside.

transformers has no LSG. Importing this module registers the classes with its Auto classes, after
which a saved LSG model opens like any other. Names of weights and settings are those of the
published checkpoints (Condevaux and Harispe, PAKDD 2023; package lsg-converter), whose weights can
be read here.

Note:
    Global tokens are rows of `global_embeddings`, normalised like other embeddings and put in
    front of the input; attention.lsg says who sees whom. `pool_with_global`: the output of the
    first token is replaced by that of the first global token. `mask_first_token`: the first token
    is no key. With both, and the first token's own embedding as the global one, the global token
    stands in the first token's place. `adaptive` (pad to whole blocks by itself) is always true
    here. Of all outputs the global tokens are cut off; attention probabilities are never returned.
"""

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    PreTrainedConfig,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForQuestionAnswering,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    RobertaModel,
)
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions
from transformers.utils import can_return_tuple

from ctd_lib.attention.encoder import check_inputs
from ctd_lib.attention.lsg import (
    MAX_GLOBAL_TOKENS,
    LsgGeometry,
    LsgLayout,
    layout,
    lsg_attention,
)
from ctd_lib.errors import CtdError


class LsgRobertaConfig(RobertaConfig):
    """RoBERTa's configuration with LSG's settings, at the published checkpoints' values."""

    model_type = "lsg-roberta"

    block_size: int = 128
    sparse_block_size: int = 128
    sparsity_factor: int = 2
    sparsity_type: str | None = "norm"
    num_global_tokens: int = 1
    mask_first_token: bool = False
    pool_with_global: bool = True

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        _check(self)


class LsgBertConfig(BertConfig):
    """BERT's configuration with LSG's settings, at the published checkpoints' values."""

    model_type = "lsg-bert"

    block_size: int = 128
    sparse_block_size: int = 128
    sparsity_factor: int = 2
    sparsity_type: str | None = "norm"
    num_global_tokens: int = 1
    mask_first_token: bool = False
    pool_with_global: bool = True

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        _check(self)


def _check(config) -> None:
    config.sparsity_type = config.sparsity_type or "none"
    LsgGeometry.of(config)


def config_from_published(fields: dict) -> PreTrainedConfig:
    """Our configuration from the config.json of a published LSG checkpoint.

    Raises:
        CtdError: it is LSG on another family than RoBERTa and BERT.
    """
    classes = {"roberta": LsgRobertaConfig, "bert": LsgBertConfig}
    family = fields.get("model_type")
    if family not in classes:
        raise CtdError(
            f"LSG checkpoints of family {family!r} are not supported; take one of"
            f" {', '.join(classes)}."
        )
    ours = classes[family]
    foreign = ("model_type", "auto_map", "base_model_prefix", "architectures", "adaptive")
    return ours(**{name: value for name, value in fields.items() if name not in foreign})


class LsgSelfAttention(nn.Module):
    """Projections around `lsg_attention`, with the parameter names of BERT's self-attention."""

    def __init__(self, config):
        super().__init__()
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.num_heads = config.num_attention_heads
        self.geometry = LsgGeometry.of(config)

    def forward(self, hidden_states: Tensor, attention_mask: LsgLayout, **kwargs):
        query, key, value = (
            projection(hidden_states).unflatten(-1, (self.num_heads, -1))  # (B, G + T, H, D)
            for projection in (self.query, self.key, self.value)
        )
        context = lsg_attention(query, key, value, attention_mask, self.geometry)
        return context.flatten(2), None


class _LsgModel:
    """Mixed into RobertaModel and BertModel."""

    def __init__(self, config, add_pooling_layer: bool = True):
        super().__init__(config, add_pooling_layer=add_pooling_layer)
        self.geometry = LsgGeometry.of(config)
        self.embeddings.global_embeddings = nn.Embedding(MAX_GLOBAL_TOKENS, config.hidden_size)
        for layer in self.encoder.layer:
            layer.attention.self = LsgSelfAttention(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPoolingAndCrossAttentions:
        """Encode (B, T) tokens, any T up to the model's positions.

        `attention_mask` (B, T) is 0 at padding.

        Raises:
            CtdError: the sequence is longer than that, or the mask is of another shape.
        """
        check_inputs(input_ids, inputs_embeds, attention_mask, self.positions())
        tokens = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds)
        front = self.geometry.num_global_tokens
        hidden = torch.cat([self._global_tokens(len(tokens)), tokens], dim=1)  # (B, G + T, C)

        if attention_mask is None:
            attention_mask = torch.ones(tokens.shape[:2], device=tokens.device)
        keep = attention_mask.bool()
        if self.config.mask_first_token:
            keep = keep.clone()
            keep[:, 0] = False
        shared = layout(keep, self.geometry)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states

        states = [hidden]
        for layer in self.encoder.layer:
            hidden = layer(hidden, shared)
            # One of 4,096 tokens at width 768 is 12 MiB: what nobody asked for is let go.
            states = [*states, hidden] if output_hidden_states else [hidden]
        if self.config.pool_with_global:
            hidden = torch.cat([hidden[:, :front], hidden[:, :1], hidden[:, front + 1 :]], dim=1)
            states[-1] = hidden
        last = hidden[:, front:]
        return BaseModelOutputWithPoolingAndCrossAttentions(
            last_hidden_state=last,
            pooler_output=self.pooler(last) if self.pooler is not None else None,
            hidden_states=tuple(x[:, front:] for x in states) if output_hidden_states else None,
        )

    def positions(self) -> int:
        """The longest sequence that the position embeddings take, in tokens."""
        return self.config.max_position_embeddings

    def _global_tokens(self, batch_size: int) -> Tensor:
        """(B, G, C)"""
        rows = self.embeddings.global_embeddings.weight[: self.geometry.num_global_tokens]
        rows = self.embeddings.LayerNorm(rows).expand(batch_size, -1, -1)
        return self.embeddings.dropout(rows)


class LsgRobertaModel(_LsgModel, RobertaModel):
    config: LsgRobertaConfig

    def positions(self) -> int:
        """As in `_LsgModel`; they start after the padding index."""
        return self.config.max_position_embeddings - self.config.pad_token_id - 1


class LsgBertModel(_LsgModel, BertModel):
    config: LsgBertConfig


class _LsgRobertaHead:
    """Mixed into RoBERTa's classes with a head: the same head on an LSG encoder."""

    config: LsgRobertaConfig

    def __init__(self, config):
        super().__init__(config)
        self.roberta = LsgRobertaModel(config, add_pooling_layer=self.roberta.pooler is not None)
        self.post_init()


class _LsgBertHead:
    """Mixed into BERT's classes with a head: the same head on an LSG encoder."""

    config: LsgBertConfig

    def __init__(self, config):
        super().__init__(config)
        self.bert = LsgBertModel(config, add_pooling_layer=self.bert.pooler is not None)
        self.post_init()


class LsgRobertaForMaskedLM(_LsgRobertaHead, RobertaForMaskedLM):
    config: LsgRobertaConfig


class LsgRobertaForSequenceClassification(_LsgRobertaHead, RobertaForSequenceClassification):
    config: LsgRobertaConfig


class LsgRobertaForTokenClassification(_LsgRobertaHead, RobertaForTokenClassification):
    config: LsgRobertaConfig


class LsgRobertaForQuestionAnswering(_LsgRobertaHead, RobertaForQuestionAnswering):
    config: LsgRobertaConfig


class LsgBertForMaskedLM(_LsgBertHead, BertForMaskedLM):
    config: LsgBertConfig


class LsgBertForSequenceClassification(_LsgBertHead, BertForSequenceClassification):
    config: LsgBertConfig


class LsgBertForTokenClassification(_LsgBertHead, BertForTokenClassification):
    config: LsgBertConfig


class LsgBertForQuestionAnswering(_LsgBertHead, BertForQuestionAnswering):
    config: LsgBertConfig


def _register() -> None:
    classes = {
        AutoModel: (LsgRobertaModel, LsgBertModel),
        AutoModelForMaskedLM: (LsgRobertaForMaskedLM, LsgBertForMaskedLM),
        AutoModelForSequenceClassification: (
            LsgRobertaForSequenceClassification,
            LsgBertForSequenceClassification,
        ),
        AutoModelForTokenClassification: (
            LsgRobertaForTokenClassification,
            LsgBertForTokenClassification,
        ),
        AutoModelForQuestionAnswering: (
            LsgRobertaForQuestionAnswering,
            LsgBertForQuestionAnswering,
        ),
    }
    for config in (LsgRobertaConfig, LsgBertConfig):
        AutoConfig.register(config.model_type, config)
    for auto, models in classes.items():
        for config, model in zip((LsgRobertaConfig, LsgBertConfig), models, strict=True):
            auto.register(config, model)


_register()
