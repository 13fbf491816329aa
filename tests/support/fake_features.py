"""Feature shards of random bytes, and the manifest that a silo would write for them."""

import hashlib

import numpy as np

from cross_silo.launch.record import write_json

TERMS = {"cut": 4, "extractor": "e" * 64, "epsilon": None}


def write_features(directory, sizes=(50_000, 70_001), count=7, seed=1, **changes):
    """Write files of ``sizes`` random bytes and their manifest into ``directory``; return the manifest."""
    directory.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    files = []
    for number, size in enumerate(sizes):
        content = random.bytes(size)
        name = f"features_{number}.mindrecord"
        (directory / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        files.append({"name": name, "bytes": size, "sha256": digest, "images": count})
    manifest = {**TERMS, "count": count, "files": files, **changes}
    write_json(directory / "manifest.json", manifest)
    return manifest
