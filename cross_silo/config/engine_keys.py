"""Keys of the mindspore-federated engine's YAML that no engine here has a use for, its own neither.

A tutorial's YAML must load as it is, and none of its keys may promise what does not happen: a key that would change
the training is refused unless it is at its "off" value, the rest is taken out and named.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Tuple

from cross_silo.errors import UserError

OFF: Mapping[str, Tuple[Any, ...]] = {
    "encrypt.encrypt_type": ("NOT_ENCRYPT",),
    "encrypt.encrypt_train_type": ("NOT_ENCRYPT",),
    "compression.upload_compress_type": ("NO_COMPRESS",),
    "compression.download_compress_type": ("NO_COMPRESS",),
    "client_verify.pki_verify": (False,),
    "client.http_url_prefix": ("",),
    "unsupervised.eval_type": ("NOT_EVAL",),
}
"""Keys that must be at one of these values."""

SWITCHED_OFF = ("ssl", "encrypt", "compression", "client_verify", "unsupervised")
"""Sections whose other keys only matter where the switch in :data:`OFF` (or enable_ssl) is on."""

NOT_READ = (
    "summary.failure_event_file",
    "summary.continuous_failure_times",
    "summary.data_rate_dir",
    "summary.participation_time_level",
    "distributed_cache.plugin_lib_path",
    "client.connection_num",
)
"""Keys without effect on the training; named, so that nobody waits for what they ask for."""


def take_out(values: Mapping[str, Any], where: str) -> Tuple[Dict[str, Any], List[str]]:
    """Return ``values`` without the engine's own keys, and the dotted names of those that are not read.

    Raises:
        UserError: such a key asks for something that is not done.
    """
    engine = values.get("engine", "native")
    rest: Dict[str, Any] = {}
    not_read: List[str] = []
    if values.get("enable_ssl") is True and values.get("ssl"):
        key = next(iter(values["ssl"]))
        raise UserError(f"{where}: ssl.{key} is not read by engine {engine}; its certificates are those in auth.dir")
    for section, content in values.items():
        if not isinstance(content, dict):
            rest[section] = content
            continue
        kept = {}
        for key, value in content.items():
            name = f"{section}.{key}"
            if name in OFF and value not in OFF[name]:
                raise UserError(f"{where}: {name} is {value!r}, expected {OFF[name][0]!r} with engine {engine}")
            if name in NOT_READ:
                not_read.append(name)
            elif name not in OFF and section not in SWITCHED_OFF:
                kept[key] = value
        if kept or section not in SWITCHED_OFF:
            rest[section] = kept
    return rest, not_read
