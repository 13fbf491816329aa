"""``python -m cross_silo.checkpoint.check_model``: is a checkpoint one of the model that a YAML describes?"""

from __future__ import annotations

import argparse
from typing import Optional, Sequence

from cross_silo import runtime
from cross_silo.checkpoint.file import read_checkpoint
from cross_silo.checkpoint.network import load_weights
from cross_silo.config.model import load_model, make_detector
from cross_silo.errors import run_main


def parse(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="model YAML")
    parser.add_argument("--checkpoint", required=True, help="a global model of the job")
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Build the network and load the checkpoint into it. Raises UserError where it is another model's."""
    arguments = parse(argv)
    model = load_model(arguments.config)
    weights, info = read_checkpoint(arguments.checkpoint)
    if not info.classes and not model.config.num_classes:
        return 0  # nothing says how many classes the network has
    detector = make_detector(model, len(info.classes) or None)
    runtime.prepare()
    runtime.start(model.config.seed, model.config.device_target)
    load_weights(detector.build_network(), weights, info, arguments.checkpoint)
    return 0


if __name__ == "__main__":
    run_main(main)
