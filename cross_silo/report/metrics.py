"""A job's status as Prometheus reads it (text exposition format), with the serving process's own figures."""

from __future__ import annotations

from typing import Any, Iterator, Mapping, Optional, Tuple

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

GAUGES = {
    "round": "Round in progress",
    "attempt": "Attempt at the round in progress",
    "rounds": "Good rounds after which the job ends in any case",
}
COUNTERS = {
    "good_rounds": "Rounds that ended well",
    "failed_rounds": "Attempts at rounds that failed",
    "updates": "Updates that are part of a global model",
    "bytes_up": "Bytes of updates taken",
    "bytes_down": "Bytes of models sent",
}
OF_SILOS = {
    "samples": "Images that the silo trains on",
    "step": "Training steps that the silo has taken",
    "loss": "Last loss that the silo told",
    "last_seen": "Seconds since the silo's last sign of life",
}


def render(status: Optional[Mapping[str, Any]]) -> bytes:
    """Return the metrics of this process and, where it is known, of a job.

    Args:
        status: as ``read_status`` returns it; None: Redis does not answer, or knows no such job.
    """
    # imported here: a scheduler that nobody asks for metrics stays smaller without it
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
    from prometheus_client.registry import Collector

    class OfJob(Collector):
        def collect(self) -> Iterator[Any]:
            return _families(status)

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(OfJob())
    return generate_latest(registry)


def _families(status: Optional[Mapping[str, Any]]) -> Iterator[Any]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    def gauge(name: str, help: str, *values: Tuple[Tuple[str, ...], Any], labels: Tuple[str, ...] = ()) -> Any:
        family = GaugeMetricFamily(f"cross_silo_{name}", help, labels=labels)
        for key, value in values:
            if value is not None:
                family.add_metric(key, value)
        return family

    yield gauge("job_known", "1 where the job's record is there, 0 where Redis is away or has none", ((), bool(status)))
    if status is None:
        return
    labels = ("fl_name", "instance", "state", "phase")
    yield gauge("job", "Where the job stands", (tuple(status[name] for name in labels), 1), labels=labels)
    for name, help in GAUGES.items():
        yield gauge(name, help, ((), status[name]))
    for name, help in COUNTERS.items():
        family = CounterMetricFamily(f"cross_silo_{name}", help)
        family.add_metric((), status[name])
        yield family
    servers = [((str(entry["server"]),), float(not entry["lost"])) for entry in status["servers"]]
    yield gauge("server_up", "1 for a server that is there, as the first one sees it", *servers, labels=("server",))
    silos = [((entry["silo"],), entry) for entry in status["participants"]]
    up = [(key, float(entry["live"])) for key, entry in silos]
    yield gauge("silo_up", "1 for a silo with a live worker", *up, labels=("silo",))
    for name, help in OF_SILOS.items():
        seconds = "_seconds" if name == "last_seen" else ""
        values = [(key, entry[name]) for key, entry in silos]
        yield gauge(f"silo_{name}{seconds}", help, *values, labels=("silo",))
    yield gauge("missing_silos", "Silos that should take part and are not alive", ((), len(status["missing"])))
    windows = [((key,), left) for key, left in status["windows"].items()]
    yield gauge("window_left_seconds", "Time left of the windows that run", *windows, labels=("window",))
    if status["evaluations"]:
        last = status["evaluations"][-1]
        yield gauge("evaluated_round", "Last evaluated round", ((), last["round"]))
        values = [((name,), last[name]) for name in ("AP50", "AP")]
        yield gauge("accuracy", "What the last evaluated round's model reached", *values, labels=("metric",))
    refused = CounterMetricFamily("cross_silo_refused_updates", "Updates that were refused", labels=("silo", "reason"))
    for silo, reasons in status["refused_updates"].items():
        for reason, count in reasons.items():
            refused.add_metric((silo, reason), count)
    yield refused
