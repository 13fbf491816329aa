"""Puts the final global model where a Sedna job wants it: its format is that of the file's ending."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cross_silo.checkpoint import newest_checkpoint
from cross_silo.errors import UserError
from cross_silo.sedna.plan import ROOT, AggregatorPlan

ENDINGS = (".ckpt", ".safetensors", ".pth", ".pt")
"""Formats that can be written; .pth and .pt hold tensors under the public names."""


def model_target(url: str, name: str, format: str = "") -> str:
    """Return the url of the model's file: ``url``, or below it where it is a directory.

    Args:
        name: of the job, which a file in a directory gets.
        format: the Model's; it says the ending of that file.

    Raises:
        UserError: the ending is of no format that can be written.
    """
    ending = Path(url.rpartition("/")[2]).suffix.lower()
    if ending in ENDINGS:
        return url
    if ending:
        raise UserError(f"MODEL_URL is {url}: the model cannot be written as {ending}; expected {', '.join(ENDINGS)}")
    chosen = f".{format.lower()}" if format else ENDINGS[0]
    if chosen not in ENDINGS:
        raise UserError(f"the Model's format is {format!r}; expected {', '.join(item[1:] for item in ENDINGS)}")
    return f"{url.rstrip('/')}/{name}{chosen}"


def convert_final(plan: AggregatorPlan, target: Path) -> Path:
    """Write the newest global model of ``plan``'s job to ``target`` and return the checkpoint that it came from.

    MindSpore is not needed, and is not imported into this process.

    Raises:
        UserError: there is no checkpoint, or it cannot be written so.
    """
    source = newest_checkpoint(plan.checkpoint_dir, plan.fl_name)
    if source is None:
        raise UserError(f"{plan.checkpoint_dir} has no usable checkpoint of job {plan.fl_name!r}")
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(ROOT / "tools" / "convert_checkpoint.py"), "--in", str(source)]
    done = subprocess.run([*command, "--out", str(target), "--json"], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no output"]
        raise UserError(f"{target}: {lines[-1].replace('error: ', '', 1)}")
    return source
