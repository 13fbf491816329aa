"""Seconds and memory of a training step, where they go by part, and a public implementation's beside it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import queue
import statistics
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np
from peers import find_peer
from rich.console import Console
from rich.table import Table

import cross_silo.runtime
from cross_silo.config.model import Model, load_model, make_detector
from cross_silo.errors import UserError, run_main
from cross_silo.launch.proc import peak_memory

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "faster_rcnn_r50_fpn.yaml"
CLASSES = 80
"""Where the configuration leaves the number to the data: COCO's."""
OBJECTS = 10
"""Boxes in each image."""
DEADLINE = 900
"""Seconds that one process may take, compilation included."""


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default=str(CONFIG), help="model YAML; default: the R50-FPN one")
    parser.add_argument(
        "--peer", help="official/cv/FasterRCNN of a mindspore-ai/models checkout, or a mindyolo checkout, to run beside"
    )
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="instead of the YAML's pixels")
    parser.add_argument("--batch_size", type=int, help="instead of the YAML's")
    parser.add_argument("--num_classes", type=int, help=f"instead of the YAML's; where it has none: {CLASSES}")
    parser.add_argument("--steps", type=int, default=5, help="the median counts; one more is left out")
    parser.add_argument("--parts", action="store_true", help="measure the parts of a Faster R-CNN, too")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    args = parser.parse_args(argv)
    if args.steps < 1:
        raise UserError(f"--steps: found {args.steps}; expected at least 1")
    model = read_model(args)
    make_detector(model)
    if args.peer:
        find_peer(args.peer, model.config.detector)
    return args


def read_model(args: argparse.Namespace) -> Model:
    """Return the model of --config with what the command line says instead."""
    model = load_model(args.config)
    height, width = args.size or (model.config.img_height, model.config.img_width)
    config = dataclasses.replace(
        model.config,
        img_height=height,
        img_width=width,
        batch_size=args.batch_size or model.config.batch_size,
        num_classes=args.num_classes or model.config.num_classes or CLASSES,
    )
    return dataclasses.replace(model, config=config)


def example(model: Model, noise_size: int) -> "List[np.ndarray]":
    """Return one batch of random images and boxes: image, boxes, labels, valid, noise, as a training cell takes."""
    config, rng = model.config, np.random.default_rng(0)
    n, objects = config.batch_size, min(OBJECTS, config.num_gts)
    sides = np.array([config.img_width, config.img_height])
    boxes = np.zeros((n, config.num_gts, 4), np.float32)
    low = rng.uniform(0, 0.6, (n, objects, 2)) * sides
    boxes[:, :objects] = np.concatenate([low, low + rng.uniform(0.05, 0.4, (n, objects, 2)) * sides], -1)
    valid = np.zeros((n, config.num_gts), np.int32)
    valid[:, :objects] = 1
    image = rng.integers(0, 256, (n, config.img_height, config.img_width, 3)).astype(np.uint8)
    labels = rng.integers(0, config.num_classes, valid.shape).astype(np.int32)
    return [image, boxes, labels, valid, rng.random((n, max(noise_size, 1)), np.float32)]


def timed(run: Callable[[], Any], steps: int, clock: Callable[[], float] = time.perf_counter) -> List[float]:
    """Return the seconds of each of ``steps`` calls."""
    seconds = []
    for _ in range(steps):
        began = clock()
        run()
        seconds.append(clock() - began)
    return seconds


def measure_step(step: Callable[[], Any], parameters: int, steps: int) -> Dict[str, float]:
    """Compile and run a training step; return its seconds (CPU seconds suffer less from other load) and peak MB."""
    first = timed(step, 1)[0]
    cpu = time.process_time()
    seconds = timed(step, steps)
    cpu = time.process_time() - cpu
    return {
        "compile_seconds": first - min(seconds),
        "seconds": statistics.median(seconds),
        "cpu_seconds": cpu / steps,
        "peak_mb": peak_memory(os.getpid()),
        "parameters": parameters,
    }


def measure_ours(args: argparse.Namespace) -> Dict[str, float]:
    """Measure the training step that a worker takes."""
    from mindspore import Tensor

    from cross_silo.training.mindspore_trainer import TrainStep, make_optimizer

    model = read_model(args)
    detector = make_detector(model)
    network = detector.build_network()
    optimizer = make_optimizer(model.config, network)
    cell = detector.training_cell(network)
    step = TrainStep(cell, optimizer, model.config.loss_scale, model.config.gradient_clip).set_train()
    inputs = [Tensor(array) for array in example(model, detector.noise_size)]
    return measure_step(lambda: step(*inputs).asnumpy(), sum(p.size for p in network.trainable_params()), args.steps)


def measure_peer(args: argparse.Namespace) -> Dict[str, float]:
    """Measure the other implementation's step on the same batch."""
    model = read_model(args)
    detector = make_detector(model)
    batch = example(model, detector.noise_size)
    step, parameters = find_peer(args.peer, model.config.detector).build(args.peer, model, batch)
    return measure_step(step, parameters, args.steps)


def measure_parts(args: argparse.Namespace) -> Dict[str, Any]:
    """Measure the parts of a Faster R-CNN one by one: CPU seconds forward, and of the gradient where there is one."""
    from mindspore import ParameterTuple, Tensor, nn, ops

    model = read_model(args)
    detector = make_detector(model)
    network = detector.build_network()
    cell = detector.training_cell(network)
    image, boxes, labels, valid, noise = (Tensor(x) for x in example(model, detector.noise_size))

    class Alone(nn.Cell):
        """One part as a graph of its own, and its gradient."""

        def __init__(self, part: Any, weights: Sequence[Any]) -> None:
            super().__init__(auto_prefix=False)
            self.part, self.weights = part, ParameterTuple(weights)

        def construct(self, *inputs):
            return self.part(*inputs)

    class Gradient(nn.Cell):
        """Forward and backward of a part; the output serves as the output's gradient."""

        def __init__(self, alone: Alone) -> None:
            super().__init__(auto_prefix=False)
            self.alone = alone
            by_weight = len(alone.weights) > 0
            self.gradient = ops.GradOperation(get_all=True, get_by_list=by_weight, sens_param=True)

        def construct(self, *inputs_and_sens):
            if len(self.alone.weights):
                return self.gradient(self.alone, self.alone.weights)(*inputs_and_sens)
            return self.gradient(self.alone)(*inputs_and_sens)

    found: Dict[str, Any] = {}

    def part(name: str, run: Any, *inputs: Any, weights: Optional[Any] = None) -> Any:
        """Measure ``run(*inputs)``; its gradient if ``weights``, a list, is given. Return the output."""
        alone = Alone(run, weights or []).set_train()
        out = alone(*inputs)
        _wait(out)
        forward = statistics.median(timed(lambda: _wait(alone(*inputs)), args.steps, time.process_time))
        found[name] = {"forward": forward}
        if weights is not None:
            both = Gradient(alone).set_train()
            _wait(both(*inputs, out))
            median = statistics.median(timed(lambda: _wait(both(*inputs, out)), args.steps, time.process_time))
            found[name]["gradient"] = max(median - forward, 0.0)
        return out

    def fpn(*stages):
        return network.fpn(stages)

    def rpn(*levels):
        return network.rpn(levels)

    def roi_align(*inputs):
        return cell.roi_align(inputs[:-1], inputs[-1])

    pixels = Tensor(((image.asnumpy().astype(np.float32) - 127) / 58).transpose(0, 3, 1, 2).copy())
    stages = part("backbone", network.backbone, pixels, weights=network.backbone.trainable_params())
    levels = part("fpn", fpn, *stages[network.first_stage :], weights=network.fpn.trainable_params())
    logits, deltas = part("rpn head", rpn, *levels, weights=network.rpn.trainable_params())
    rpn_noise = noise[:, : cell.num_anchors]
    part("rpn targets and losses", cell.rpn_losses, logits, deltas, boxes, valid, rpn_noise)
    regions, exists = part("proposals", cell.proposals, logits, deltas)
    candidates = noise[:, cell.num_anchors :]
    regions = part("box targets", cell.box_targets, regions, exists, boxes, labels, valid, candidates)[0]
    pooled = part("roi align", roi_align, *levels[: cell.roi_align.levels], regions, weights=[])
    part("box head", network.box_head, pooled, weights=network.box_head.trainable_params())
    part("all forward", cell, image, boxes, labels, valid, noise)
    return found


def _wait(output: Any) -> None:
    """Wait until an output, a tensor or a nest of them, is computed."""
    while isinstance(output, (tuple, list)):
        output = output[-1]
    output.asnumpy()


MEASURES = {"ours": measure_ours, "peer": measure_peer, "parts": measure_parts}


def _child(name: str, args: argparse.Namespace, results: Any) -> None:
    cross_silo.runtime.prepare()
    cross_silo.runtime.start(seed=1)
    results.put(MEASURES[name](args))


def in_child(name: str, args: argparse.Namespace) -> Dict[str, Any]:
    """Run one measurement in a process of its own, so that its peak memory is its own."""
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    process = context.Process(target=_child, args=(name, args, results), daemon=True)
    process.start()
    deadline = time.monotonic() + DEADLINE
    try:
        while True:
            try:
                return results.get(timeout=1)
            except queue.Empty:
                if not process.is_alive() or time.monotonic() > deadline:
                    raise UserError(f"measuring {name} failed or took more than {DEADLINE} s") from None
    finally:
        process.join(timeout=5)
        process.kill()


def show(result: Dict[str, Any]) -> None:
    """Print the tables."""
    console = Console()
    ours, peer = result["ours"], result.get("peer")
    table = Table(title=result["work"])
    for heading in ("", "ours", *((result["peer_name"], "ratio") if peer else ())):
        table.add_column(heading, justify="left" if not heading else "right")
    for label, key, pattern in (
        ("seconds a step, median", "seconds", "{:.2f}"),
        ("CPU seconds a step, mean", "cpu_seconds", "{:.2f}"),
        ("peak memory, MB", "peak_mb", "{:.0f}"),
        ("seconds to compile", "compile_seconds", "{:.1f}"),
        ("trainable parameters", "parameters", "{:,}"),
    ):
        beside = [pattern.format(peer[key]), f"{ours[key] / peer[key]:.2f}"] if peer else []
        table.add_row(label, pattern.format(ours[key]), *beside)
    console.print(table)
    if "parts" in result:
        table = Table(title="each part as a graph of its own, CPU seconds")
        for heading in ("", "forward", "gradient"):
            table.add_column(heading, justify="left" if not heading else "right")
        for name, seconds in result["parts"].items():
            gradient = seconds.get("gradient")
            table.add_row(name, f"{seconds['forward']:.3f}", "" if gradient is None else f"{gradient:.3f}")
        rest = ours["cpu_seconds"] - result["parts"]["all forward"]["forward"]
        table.add_row("the step's rest: gradients, clipping, update", "", f"{rest:.3f}")
        console.print(table)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command."""
    args = parse(argv)
    config = read_model(args).config
    names = ["ours", *(["peer"] if args.peer else []), *(["parts"] if args.parts else [])]
    result: Dict[str, Any] = {name: in_child(name, args) for name in names}
    size = f"{config.batch_size} images of {config.img_height} x {config.img_width}"
    result["work"] = f"{Path(args.config).name}: one training step, {size}"
    if "peer" in result:
        result["peer_name"] = find_peer(args.peer, config.detector).name
        result["ratio"] = result["ours"]["seconds"] / result["peer"]["seconds"]
        result["memory_ratio"] = result["ours"]["peak_mb"] / result["peer"]["peak_mb"]
    if args.json:
        print(json.dumps(result))
    else:
        show(result)
    return 0


if __name__ == "__main__":
    run_main(main)
