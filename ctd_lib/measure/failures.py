"""What a forward can fail of that costs its own row and no other."""

import torch

OUT_OF_MEMORY = "out of memory"


def explained(error: Exception) -> str | None:
    """One sentence for a row where memory ran out or the GPU stopped answering, else None."""
    text = str(error)
    # On a CPU torch raises a plain RuntimeError, and ONNX Runtime an exception of its own.
    no_memory = ("DefaultCPUAllocator", "bad_alloc", "Failed to allocate memory")
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        words in text for words in no_memory
    ):
        return OUT_OF_MEMORY
    # Once CUDA has failed, every later call in this process fails alike.
    if "CUDA error" in text or "CUDA driver error" in text:
        return f"the GPU stopped answering ({text.splitlines()[0].rstrip('.')})"
    return None
