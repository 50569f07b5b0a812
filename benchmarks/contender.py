"""One contender of benchmarks/attention.py: a process that holds a model and times forwards.

It reads a JSON object a line, {"length": 4096, "batch_size": 1, "train": false, "memory": false},
and answers with one. It needs torch and transformers, and ctd_lib only for our own implementations
and the machine's speed, so that another environment can run the others.
"""

import argparse
import contextlib
import ctypes
import gc
import json
import sys
import time
from pathlib import Path

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def build(arch, kind, shape, positions):
    """A base model with random weights, the same ones for every kind of an arch."""
    import transformers

    shape = dict(shape, attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0, pad_token_id=1)
    torch.manual_seed(0)
    if kind == "lsg-converter":
        from lsg_converter.roberta.modeling_lsg_roberta import LSGRobertaConfig, LSGRobertaModel

        settings = {
            "num_global_tokens": 1,
            "block_size": 128,
            "sparse_block_size": 128,
            "sparsity_factor": 2,
        }
        return LSGRobertaModel(
            LSGRobertaConfig(
                **shape,
                **settings,
                max_position_embeddings=positions + 2,
                sparsity_type="norm",
                adaptive=True,
            )
        )
    if arch == "lsg":
        from ctd_lib import lsg

        return lsg.LsgRobertaModel(
            lsg.LsgRobertaConfig(**shape, max_position_embeddings=positions + 2)
        )
    if arch == "full":
        config = transformers.RobertaConfig(**shape, max_position_embeddings=positions + 2)
        return transformers.RobertaModel(config, add_pooling_layer=False)
    if arch == "longformer":
        config = transformers.LongformerConfig(
            **shape, attention_window=512, max_position_embeddings=positions + 2
        )
        return transformers.LongformerModel(config)
    if arch == "bigbird":
        return transformers.BigBirdModel(
            transformers.BigBirdConfig(**shape, max_position_embeddings=positions)
        )
    if arch == "nystromformer":
        config = transformers.NystromformerConfig(**shape, max_position_embeddings=positions)
        return transformers.NystromformerModel(config)
    raise ValueError(f"no arch is called {arch}")


def prepare(model, length):
    """Let a model of transformers run at any length the pattern that its arch is published with.

    Its Nystromformer uses landmarks only if it is told the length of its input. Its Big Bird goes
    over to full attention at an input too short for its blocks, and stays there.
    """
    for module in model.modules():
        if hasattr(module, "seq_len") and hasattr(module, "num_landmarks"):
            module.seq_len = length
        if type(module).__name__ == "BigBirdModel":
            module.set_attention_type("block_sparse")


class Memory:
    """Peak bytes on a device of what happens inside, over what was held before.

    None where it is unknown.
    """

    def __init__(self, device):
        self.device = device

    def __enter__(self):
        self.extra = None
        gc.collect()
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        elif sys.platform == "linux":
            # What earlier runs freed goes back to the system, and the peak starts anew.
            ctypes.CDLL("libc.so.6").malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
            self.before = self._status("VmRSS")
        return self

    def __exit__(self, *error):
        if self.device == "cuda":
            self.extra = torch.cuda.max_memory_allocated() - self.before
        elif sys.platform == "linux":
            self.extra = self._status("VmHWM") - self.before

    @staticmethod
    def _status(field):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def run(model, device, length, batch_size, train, memory):
    """Seconds of a forward, with its backward if `train`; extra bytes too if `memory`."""
    generator = torch.Generator().manual_seed(length)
    ids = torch.randint(5, 1000, (batch_size, length), generator=generator).to(device)
    inputs = {"input_ids": ids}
    if model.config.model_type == "longformer":
        inputs["global_attention_mask"] = torch.zeros_like(ids)
        inputs["global_attention_mask"][:, 0] = 1
    model.train(train)
    model.zero_grad()
    meter = Memory(device) if memory else contextlib.nullcontext()
    with meter, torch.inference_mode(not train):
        start = time.perf_counter()
        output = model(**inputs).last_hidden_state
        if train:
            output.float().square().mean().backward()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "extra_bytes": meter.extra if memory else None}


def matmul(device):
    """FLOP per second of the fastest matrix product at hand, for each dtype."""
    from ctd_lib.measure import machine

    found = machine.matmul_gflops(torch.device(device), list(DTYPES))
    return {name: 1e9 * speed for name, speed in found.items()}


def main():
    parser = argparse.ArgumentParser()
    for name in ("arch", "kind", "shape", "dtype", "device"):
        parser.add_argument(name)
    parser.add_argument("positions", type=int)
    args = parser.parse_args()

    model = None
    try:
        if args.arch != "matmul":
            if args.kind == "transformers":
                # Its Nystromformer makes matrices of the default dtype.
                torch.set_default_dtype(DTYPES[args.dtype])
            model = build(args.arch, args.kind, json.loads(args.shape), args.positions)
            model = model.to(args.device, DTYPES[args.dtype])
            if args.kind == "ours":
                from ctd_lib import attention

                attention.install(model)
        print(json.dumps({"ready": True}), flush=True)
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"[:300]}), flush=True)
        return
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if model is None:
                answer = matmul(args.device)
            else:
                if args.kind == "transformers":
                    prepare(model, request["length"])
                answer = run(model, args.device, **request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
