"""Toy backbones of both families, their weights so large that every part shows in the output."""

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    BertTokenizer,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaTokenizer,
)

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
POSITIONS = 40  # fewer than the tests' max_length, and no divisor of it


def backbone(family: str):
    torch.manual_seed(0)
    if family == "roberta":
        config = RobertaConfig(
            **SIZES,
            vocab_size=len(tokenizer(family)),
            max_position_embeddings=POSITIONS + 2,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
        )
        model = RobertaForMaskedLM(config)
    else:
        config = BertConfig(
            **SIZES,
            vocab_size=len(tokenizer(family)),
            max_position_embeddings=POSITIONS,
            bos_token_id=2,
            sep_token_id=3,
        )
        model = BertForMaskedLM(config)
    for name, parameter in model.named_parameters():
        mean = 1.0 if "norm.weight" in name.lower() else 0.0
        torch.nn.init.normal_(parameter, mean, 0.3)
    return model.eval()


def tokenizer(family: str):
    letters = "abcdefghijklmnopqrstuvwxyz"
    if family == "roberta":
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        tokens = [*special, *sorted(ByteLevel.alphabet())]
        return RobertaTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[])
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = [*special, *letters, *(f"##{letter}" for letter in letters)]
    return BertTokenizer(vocab={token: i for i, token in enumerate(tokens)})


def batch(config, length: int, kept: tuple[int, ...] = ()) -> dict[str, torch.Tensor]:
    """Random tokens (B, T) that open with the first token; `kept` tokens of each row, then padding.

    Without `kept`: one row, no padding.
    """
    generator = torch.Generator().manual_seed(length)
    rows = max(1, len(kept))
    input_ids = torch.randint(5, config.vocab_size, (rows, length), generator=generator)
    input_ids[:, 0] = config.bos_token_id
    attention_mask = torch.ones_like(input_ids)
    for row, count in enumerate(kept):
        input_ids[row, count:] = config.pad_token_id
        attention_mask[row, count:] = 0
    return {"input_ids": input_ids, "attention_mask": attention_mask}


def assert_same_where_kept(ours, theirs, inputs, atol: float = 2e-5) -> None:
    """Logits or hidden states (B, T, ...) equal at every token that is no padding."""
    kept = inputs["attention_mask"].bool()
    torch.testing.assert_close(ours[kept], theirs[kept], rtol=1e-5, atol=atol)


class ToyTokenizer:
    """Ids 0 to 4 are special, 4 is the mask; ordinary ones follow."""

    mask_token_id = 4

    def __init__(self, size: int = 30):
        self.size = size

    @property
    def all_special_ids(self):
        return [0, 1, 2, 3, 4]

    def __len__(self):
        return self.size


NO_MEMORY = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 10 bytes"
"""What torch says."""


def bare_bert(layers: int = 1, positions: int = 64, width: int = 16) -> BertModel:
    """An encoder without a head, always the same."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=width, num_hidden_layers=layers, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=positions,
    )  # fmt: skip
    return BertModel(config)
