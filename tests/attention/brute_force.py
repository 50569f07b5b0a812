"""Brute-force oracles: each pattern in plain loops, attention as it is defined."""

import itertools

import torch
from torch import Tensor


def attention(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor) -> Tensor:
    """Softmax attention of one head, row by row: (T, D) each, allowed (T, T)."""
    rows = []
    for row, seen in zip(query, allowed, strict=True):
        weights = (key[seen] @ row / len(row) ** 0.5).softmax(0)
        rows.append(weights @ value[seen])
    return torch.stack(rows)


def longformer(length: int, window: int, global_tokens=()) -> Tensor:
    """Within half a window, or one of the two is global."""
    allowed = torch.zeros(length, length, dtype=torch.bool)
    for i in range(length):
        for j in range(length):
            allowed[i, j] = abs(i - j) <= window // 2 or i in global_tokens or j in global_tokens
    return allowed


def bigbird(length: int, block_size: int, drawn: list[list[int]] | None) -> Tensor:
    """Same or neighbouring block, first or last block, drawn for rows 1, 2 ...; None sees all."""
    last = (length - 1) // block_size
    allowed = torch.ones(length, length, dtype=torch.bool)
    for i in range(length if drawn is not None else 0):
        for j in range(length):
            row, column = i // block_size, j // block_size
            near = abs(row - column) <= 1 or {row, column} & {0, last}
            allowed[i, j] = bool(near) or column in drawn[row - 1]
    return allowed


def nystromformer(query: Tensor, key: Tensor, value: Tensor, num_landmarks: int) -> Tensor:
    """One sequence without padding, (H, T, D)."""
    scale = query.shape[-1] ** -0.5
    if query.shape[1] <= num_landmarks:
        return (query @ key.transpose(1, 2) * scale).softmax(-1) @ value
    cuts = [-(-part * query.shape[1] // num_landmarks) for part in range(num_landmarks + 1)]
    segments = list(itertools.pairwise(cuts))
    query_means, key_means = (
        torch.stack([x[:, a:b].mean(1) for a, b in segments], 1) for x in (query, key)
    )
    left = (query @ key_means.transpose(1, 2) * scale).softmax(-1)
    middle = (query_means @ key_means.transpose(1, 2) * scale).softmax(-1)
    right = (query_means @ key.transpose(1, 2) * scale).softmax(-1)
    eye = torch.eye(num_landmarks, dtype=query.dtype)
    inverse = middle.transpose(1, 2) / middle.sum(1).max()
    for _ in range(6):
        step = middle @ inverse
        inverse = inverse @ (13 * eye - step @ (15 * eye - step @ (7 * eye - step))) / 4
    return left @ inverse @ right @ value
