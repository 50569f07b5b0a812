"""Weight maps: the names of every tensor of every model class, in one common vocabulary.

The common names are those inside the encoder (the same in all classes), `head.*` for the masked-LM
head and `pooler.*`. None marks a tensor that is dropped on purpose. Nothing is matched by pattern:
a name that is not in the map is an error.
"""

_EMBEDDINGS = (
    "embeddings.word_embeddings.weight",
    "embeddings.position_embeddings.weight",
    "embeddings.token_type_embeddings.weight",
    "embeddings.LayerNorm.weight",
    "embeddings.LayerNorm.bias",
)
_LAYER = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
)
_ROBERTA_HEAD = {
    "lm_head.dense.weight": "head.dense.weight",
    "lm_head.dense.bias": "head.dense.bias",
    "lm_head.layer_norm.weight": "head.LayerNorm.weight",
    "lm_head.layer_norm.bias": "head.LayerNorm.bias",
    "lm_head.decoder.weight": "head.decoder.weight",
    "lm_head.decoder.bias": "head.decoder.bias",
    "lm_head.bias": "head.bias",
}
_BERT_HEAD = {
    "cls.predictions.transform.dense.weight": "head.dense.weight",
    "cls.predictions.transform.dense.bias": "head.dense.bias",
    "cls.predictions.transform.LayerNorm.weight": "head.LayerNorm.weight",
    "cls.predictions.transform.LayerNorm.bias": "head.LayerNorm.bias",
    "cls.predictions.decoder.weight": "head.decoder.weight",
    "cls.predictions.decoder.bias": "head.decoder.bias",
    "cls.predictions.bias": "head.bias",
    "cls.seq_relationship.weight": None,
    "cls.seq_relationship.bias": None,
}
_DENSE_POOLER = {"pooler.dense.weight": "pooler.weight", "pooler.dense.bias": "pooler.bias"}

# prefix of the encoder, masked-LM head, pooler
_CLASSES = {
    "roberta": ("roberta", _ROBERTA_HEAD, _DENSE_POOLER),
    "lsg-roberta": ("roberta", _ROBERTA_HEAD, _DENSE_POOLER),
    "longformer": ("longformer", _ROBERTA_HEAD, _DENSE_POOLER),
    "bert": ("bert", _BERT_HEAD, _DENSE_POOLER),
    "lsg-bert": ("bert", _BERT_HEAD, _DENSE_POOLER),
    "big_bird": (
        "bert",
        _BERT_HEAD,
        {"pooler.weight": "pooler.weight", "pooler.bias": "pooler.bias"},
    ),
    "nystromformer": ("nystromformer", _BERT_HEAD, {}),
}

_GLOBAL_PROJECTIONS = ("query", "key", "value")


def weight_map(model_type: str, num_layers: int) -> dict[str, str | None]:
    """State-dict names of a `...ForMaskedLM` or `...ForPreTraining` -> common names."""
    prefix, head, pooler = _CLASSES[model_type]
    names = {f"{prefix}.{name}": name for name in _EMBEDDINGS}
    for index in range(num_layers):
        for module in _LAYER:
            for kind in ("weight", "bias"):
                name = f"encoder.layer.{index}.{module}.{kind}"
                names[f"{prefix}.{name}"] = name
    names |= {f"{prefix}.{name}": common for name, common in pooler.items()}
    return names | head


def new_weights(model_type: str, num_layers: int) -> dict[str, str | None]:
    """Tensors that the teacher lacks -> common name of the one each starts from, None for zero."""
    prefix, _, _ = _CLASSES[model_type]
    if model_type.startswith("lsg-"):
        return {f"{prefix}.embeddings.global_embeddings.weight": "embeddings.global"}
    names: dict[str, str | None] = {}
    for index in range(num_layers):
        attention = f"encoder.layer.{index}.attention.self"
        if model_type == "longformer":
            for projection in _GLOBAL_PROJECTIONS:
                for kind in ("weight", "bias"):
                    target = f"{prefix}.{attention}.{projection}_global.{kind}"
                    names[target] = f"{attention}.{projection}.{kind}"
        elif model_type == "nystromformer":
            names[f"{prefix}.{attention}.conv.weight"] = None
    return names
