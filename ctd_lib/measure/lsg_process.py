"""LSG of lsg-converter at work, under a Python that has it: it needs older transformers.

    OTHER_PYTHON ctd_lib/measure/lsg_process.py CONFIG DTYPE DEVICE

CONFIG is the JSON of an LSG configuration. The process answers a line for a line: first what it is,
then for each {"documents": [...], "memory": false} the seconds of one forward, or the bytes of its
peak and of the time before it, or {"error": ...}. Of this project it needs `resident` alone, which
lies beside it.
"""

import json
import sys
import time
from importlib.metadata import version

import torch
from lsg_converter.roberta.modeling_lsg_roberta import LSGRobertaConfig, LSGRobertaModel
from resident import peak, start_peak


@torch.inference_mode()
def _answer(model, documents: list[int], memory: bool) -> dict:
    generator = torch.Generator().manual_seed(0)
    shape = (len(documents), max(documents))
    ids = torch.randint(2, model.config.vocab_size, shape, generator=generator)
    mask = (torch.arange(shape[1]) < torch.tensor(documents)[:, None]).long()
    ids = torch.where(mask.bool(), ids, model.config.pad_token_id).to(model.device)
    mask = mask.to(model.device)
    baseline = start_peak(model.device) if memory else 0
    started = time.perf_counter()
    model(input_ids=ids, attention_mask=mask)
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    if not memory:
        return {"seconds": seconds}
    return {"peak_bytes": max(baseline, peak(model.device)), "baseline_bytes": baseline}


def _main(config: str, dtype: str, device: str) -> None:
    torch.manual_seed(0)
    model = LSGRobertaModel(LSGRobertaConfig(**json.loads(config), adaptive=True))
    model = model.to(device, getattr(torch, dtype)).eval()
    packages = ("lsg-converter", "transformers", "torch")
    print(json.dumps({name: version(name) for name in packages}), flush=True)
    for line in sys.stdin:
        try:
            answer = _answer(model, **json.loads(line))
        except (RuntimeError, MemoryError) as error:
            answer = {"error": str(error) or type(error).__name__}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
