"""A toy backbone, corpus and tagging files, in a home of their own."""

import json
import random

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from ctd_lib import params

WORDS = "the a river city king queen spoke wrote went to in of and for Paris Rome Ada Tom".split()
PEOPLE = [("Ada", "Paris"), ("Tom", "Rome"), ("Ada", "Rome"), ("Tom", "Paris")]
CONLL = "\n".join(f"{name}\tB-PER\nspoke\tO\nin\tO\n{city}\tB-LOC\n" for name, city in PEOPLE)
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def sentence(source: random.Random, words: int = 12) -> str:
    return " ".join(source.choices(WORDS, k=words))


def toy_tokenizer() -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.train_from_iterator(
        WORDS, trainers.WordPieceTrainer(special_tokens=SPECIAL, vocab_size=120)
    )
    inner.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, **{f"{name}_token": token for name, token in names.items()}
    )


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """Parameters that point every stage at toy-sized things."""
    folder = tmp_path_factory.mktemp("toy")
    torch.manual_seed(0)
    tokenizer = toy_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=4, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=32,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained(folder / "backbone")
    tokenizer.save_pretrained(folder / "backbone")
    source = random.Random(0)
    documents = [{"text": " . ".join(sentence(source) for _ in range(8))} for _ in range(40)]
    (folder / "text.jsonl").write_text("\n".join(map(json.dumps, documents)))
    return {
        "backbone": str(folder / "backbone"),
        "max_length": 64,
        "corpora": {str(folder / "text.jsonl"): 1.0},
        "head_corpora": {str(folder / "text.jsonl"): 1.0},
        "head_steps": 2,
        "pretrain_steps": 2,
        "distill_steps": 2,
        "batch_size": 2,
        "precision": "float32",
    }


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CTD_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def make(toy):
    """Stage parameters at toy size."""
    return lambda cls, **given: params.make(
        cls, **{n: v for n, v in toy.items() if n in params.names(cls)} | given
    )


@pytest.fixture
def tagging(tmp_path):
    """Parameters of a task on a small file of one's own."""
    (tmp_path / "a.conll").write_text(CONLL)
    return {
        "task": "tagging", "train_file": str(tmp_path / "a.conll"), "epochs": 1,
        "test_file": str(tmp_path / "a.conll"), "finetune_batch_size": 2,
    }  # fmt: skip
