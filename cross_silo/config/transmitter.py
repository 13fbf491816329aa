"""How a silo's features reach the server."""

from __future__ import annotations

from dataclasses import dataclass

from cross_silo.config.schema import require

HTTP, S3, FILE = "http", "s3", "file"
CHANNELS = (HTTP, S3, FILE)


@dataclass(frozen=True)
class Transmitter:
    """The way of what is uploaded once; a round's updates go to the server in any case."""

    channel: str = "http"
    """How features travel: http, to the server; s3 or file, by way of objects below agg_data_path."""
    agg_data_path: str = ""
    """Prefix of the objects: s3://bucket/prefix, or file:///directory that silos and server share."""
    remove_at_end: bool = False
    """Whether the objects are removed when the job has ended."""

    def __post_init__(self) -> None:
        require(self.channel in CHANNELS, f"channel is {self.channel!r}, expected one of {', '.join(CHANNELS)}")
        scheme = f"{self.channel}://"
        if self.channel == HTTP:
            require(
                not self.agg_data_path,
                f"agg_data_path is {self.agg_data_path!r}, but channel http reads none; expected channel s3 or file",
            )
            require(not self.remove_at_end, "remove_at_end is true, but channel http leaves no objects")
        else:
            require(
                self.agg_data_path.startswith(scheme) and len(self.agg_data_path) > len(scheme),
                f"agg_data_path is {self.agg_data_path!r}, expected {scheme}… with channel {self.channel}",
            )
