"""PyTorch's .pth and .pt files, read without PyTorch and without executing anything of their pickles."""

from __future__ import annotations

from cross_silo.checkpoint.pytorch.read import is_torch_file, read_torch
from cross_silo.checkpoint.pytorch.write import write_torch

__all__ = ["is_torch_file", "read_torch", "write_torch"]
