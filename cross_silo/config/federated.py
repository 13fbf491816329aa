"""The job's settings: the federated YAML, with the keys of the mindspore-federated engine and ours."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from dataclasses import dataclass, field, replace
from typing import Tuple, Union

from cross_silo.config.aggregation import Aggregation
from cross_silo.config.auth import Auth, check_enrolled
from cross_silo.config.engine_keys import take_out
from cross_silo.config.mistnet import MISTNET, MistNet, chosen_algorithm
from cross_silo.config.participation import AggregationTrigger, Participation, required_updates
from cross_silo.config.schema import build, read_yaml, require
from cross_silo.config.stop_condition import StopCondition
from cross_silo.config.stop_reach import check_reachable, surely_met_in
from cross_silo.config.transmitter import Transmitter
from cross_silo.errors import UserError

ENGINES = ("native", "mindspore_federated")
WHEEL_WORKER = "wheel_worker"
NO_AUTH = "CROSS_SILO_I_UNDERSTAND_NO_AUTH"
"""Environment variable that --i_understand_no_auth sets."""
AUTH_DIR = "CROSS_SILO_AUTH_DIR"
"""Environment variable in place of auth.dir; a silo's directory is where that silo keeps it."""
MAX_MODEL_BYTES = 2**31 - 1
"""A model travels in one FlatBuffers message, whose offsets are signed 32-bit."""


@dataclass(frozen=True)
class DistributedCache:
    """Where Redis is."""

    address: str = "127.0.0.1:2345"
    """host:port. On loopback, an embedded Redis is started if nothing listens there."""
    type: str = "redis"
    """Only redis."""
    user: str = ""
    """ACL user; the password is taken from the environment variable CROSS_SILO_REDIS_PASSWORD."""
    cacert_filename: str = ""
    """Authorities of Redis's certificate (PEM); where it is set, the connection is TLS."""
    cert_filename: str = ""
    """Certificate shown to Redis (PEM), where it asks for one."""
    private_key_filename: str = ""
    """Private key of cert_filename (PEM)."""

    def __post_init__(self) -> None:
        require(self.type == "redis", f"type is {self.type!r}, expected redis")
        split_address(self.address, "address", ValueError)
        require(
            bool(self.cert_filename) == bool(self.private_key_filename),
            "cert_filename and private_key_filename are set together or not at all",
        )
        require(
            bool(self.cacert_filename) or not self.cert_filename,
            "cert_filename is set without cacert_filename; expected the authorities of Redis's certificate too",
        )


@dataclass(frozen=True)
class Round:
    """When a round begins, ends and fails. Windows are in milliseconds."""

    start_fl_job_threshold: int = 2
    """Silos that a round waits for at its start, and takes at most; further ones wait for the next round."""
    start_fl_job_time_window: int = 300_000
    """From the first silo's startFLJob to the last one's; then the round goes on with those there if they suffice."""
    update_model_ratio: float = 1.0
    """Share of the round's silos, rounded up, whose update it needs; it waits for the others to a window's end."""
    min_clients: int = 0
    """The same as a number of silos; 0: what update_model_ratio says."""
    select_num_clients: int = 0
    """Silos drawn for each round from all that are ready; 0: all take part."""
    select_seed: int = 1
    """Seed of the draw; with the round's number, its attempt and the ready silos it decides who is drawn."""
    update_model_time_window: int = 600_000
    """From the first silo's updateModel to the last one's."""
    global_iteration_time_window: int = 3_600_000
    """From the first startFLJob to the end of the round; bounds training."""
    max_consecutive_failures: int = 5
    """Failed rounds in a row after which the job ends with an error."""
    max_uploads: int = 2
    """Uploads held in memory at once; further ones wait."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value, may_be_0 = getattr(self, name), name in ("min_clients", "select_num_clients", "select_seed")
            require(value > 0 or may_be_0, f"{name} is {value}, expected more than 0")
            require(value >= 0, f"{name} is {value}, expected 0 or more")
            require(value < 2**53, f"{name} is beyond 2^53")  # exact as a float, of which seconds are made
        ratio, threshold = self.update_model_ratio, self.start_fl_job_threshold
        require(ratio <= 1, f"update_model_ratio is {ratio}, expected a share: more than 0, at most 1")
        require(
            self.select_num_clients <= threshold,
            f"select_num_clients is {self.select_num_clients}, but a draw waits for {threshold} silos only "
            "(start_fl_job_threshold)",
        )
        require(
            not self.min_clients or ratio == 1,
            f"min_clients is {self.min_clients} and update_model_ratio {ratio}; expected one of them",
        )
        require(
            self.min_clients <= self.most,
            f"min_clients is {self.min_clients}, but a round has {self.most} silos: none could become good",
        )

    @property
    def most(self) -> int:
        """Silos that a round admits."""
        return self.select_num_clients or self.start_fl_job_threshold

    def participation(self, trigger: AggregationTrigger) -> Participation:
        """Return how many silos a round needs, with the job's aggregation trigger. Raises ValueError if too many."""
        updates = trigger.updates
        if updates > self.most:
            raise ValueError(
                f"aggregation_trigger: {trigger.metric} {trigger.operator} {trigger.threshold} can never be met: "
                f"a round has {self.most} silos"
            )
        least = self.min_clients or required_updates(self.update_model_ratio, self.most)
        if updates and not self.min_clients and self.update_model_ratio == 1:
            least = updates
        if updates and least > updates:
            raise ValueError(
                f"aggregation_trigger closes a round with {updates} updates, but it needs {least} "
                "(round.min_clients or round.update_model_ratio)"
            )
        return Participation(
            self.start_fl_job_threshold, self.most, least, updates, bool(self.select_num_clients), self.select_seed
        )


@dataclass(frozen=True)
class Summary:
    """Where the job's record goes."""

    metrics_file: str = "metrics.json"
    """One JSON line a round, in the server's run directory unless absolute."""


@dataclass(frozen=True)
class Client:
    """Settings that the servers hand to the workers."""

    client_epoch_num: int = 1
    """Local epochs a round."""
    client_batch_size: int = 0
    """Images a step; 0 leaves it to the model YAML."""
    client_learning_rate: float = 0.0
    """Learning rate; 0 leaves it to the model YAML."""
    sync_frequency: int = 0
    """Local steps a round instead of epochs; 0: epochs."""

    def __post_init__(self) -> None:
        require(self.client_epoch_num >= 1, f"client_epoch_num is {self.client_epoch_num}, expected at least 1")
        for name in ("client_batch_size", "client_learning_rate", "sync_frequency"):
            require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}, expected 0 or more")


@dataclass(frozen=True)
class Evaluation:
    """Held-out data on the server's host, on which the global model of each round is measured.

    ``every`` and ``deadline`` hold for silos with a validation set of their own too.
    """

    annotations: str = ""
    """COCO json; empty: the job does not evaluate."""
    image_dir: str = ""
    """Directory that the json's file names are relative to."""
    every: int = 1
    """Rounds from one evaluation to the next; the last round is always evaluated."""
    deadline: int = 1800
    """Seconds the server waits at the job's end for outstanding evaluations."""

    def __post_init__(self) -> None:
        require(self.every >= 1, f"every is {self.every}, expected at least 1")
        require(
            bool(self.annotations) == bool(self.image_dir),
            "annotations and image_dir are set together or not at all",
        )


@dataclass(frozen=True)
class FederatedConfig:
    """All of the federated YAML."""

    fl_name: str = "cross_silo"
    """Name of the job; prefix of its Redis keys and checkpoints."""
    algorithm: str = ""
    """fedavg or mistnet; empty: what aggregation.aggregation_type says."""
    fl_iteration_num: int = 10
    """Good rounds to train; stop_condition may end the job earlier."""
    server_mode: str = "CLOUD_TRAINING"
    """Only CLOUD_TRAINING."""
    enable_ssl: bool = False
    """TLS on the server and the management REST; auth.mode mtls has it in any case."""
    engine: str = "native"
    """Which aggregator serves the job."""
    silos: Union[int, Tuple[str, ...]] = 0
    """Silos that may take part: a number, or their names. 0: as many as start_fl_job_threshold."""
    lease: float = 15.0
    """Seconds without a heartbeat after which a silo's worker counts as dead."""
    compat: str = ""
    """wheel_worker: the mindspore-federated wheel's own workers take part, too; empty: they do not."""
    auth: Auth = field(default_factory=Auth)
    distributed_cache: DistributedCache = field(default_factory=DistributedCache)
    round: Round = field(default_factory=Round)
    aggregation: Aggregation = field(default_factory=Aggregation)
    aggregation_trigger: AggregationTrigger = field(default_factory=AggregationTrigger)
    summary: Summary = field(default_factory=Summary)
    client: Client = field(default_factory=Client)
    evaluation: Evaluation = field(default_factory=Evaluation)
    stop_condition: StopCondition = field(default_factory=StopCondition)
    mistnet: MistNet = field(default_factory=MistNet)
    transmitter: Transmitter = field(default_factory=Transmitter)

    def __post_init__(self) -> None:
        require(
            re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", self.fl_name) is not None,
            f"fl_name is {self.fl_name!r}, expected 1-64 letters, digits, '_', '-' or '.', a letter or digit first",
        )
        require(
            1 <= self.fl_iteration_num < 2**31,
            f"fl_iteration_num is {self.fl_iteration_num}, expected 1 to 2^31-1",
        )
        require(
            self.server_mode == "CLOUD_TRAINING",
            f"server_mode is {self.server_mode!r}, expected CLOUD_TRAINING",
        )
        self._check_algorithm()
        require(self.engine in ENGINES, f"engine is {self.engine!r}, expected one of {', '.join(ENGINES)}")
        self._check_compat()
        require(self.lease >= 1, f"lease is {self.lease}, expected at least 1 second")
        names = self.silo_names
        require(len(set(names)) == len(names), "silos names a silo twice")
        check_enrolled(self.auth, names)
        if self.num_silos < self.round.start_fl_job_threshold:
            raise ValueError(
                f"round.start_fl_job_threshold is {self.round.start_fl_job_threshold}, "
                f"but silos allows {self.num_silos}: no round could ever begin"
            )
        self.aggregation.check_updates(self.participation)  # and refuses what can never be met
        last = surely_met_in(self.stop_condition, self.fl_iteration_num)
        if last is not None:  # the server then ends the job with exactly that round, whoever is alive
            object.__setattr__(self, "fl_iteration_num", last)
        check_reachable(self.stop_condition, self.fl_iteration_num, bool(self.evaluation.annotations))

    def _check_compat(self) -> None:
        require(
            self.compat in ("", WHEEL_WORKER), f"compat is {self.compat!r}, expected {WHEEL_WORKER!r}, or '' for none"
        )
        if self.compat:
            why = f"compat is {WHEEL_WORKER}: the wheel's workers"
            require(self.engine == "native", f"{why} need no key with engine {self.engine}; expected ''")
            require(self.auth.mode == "none", f"{why} show neither certificate nor token; auth.mode is not none")
            require(not self.silo_names, f"{why} make up their names at each start; expected silos as a number")

    def _check_algorithm(self) -> None:
        object.__setattr__(self, "algorithm", chosen_algorithm(self.algorithm, self.aggregation.aggregation_type))
        if self.algorithm != MISTNET:
            for key, unused in (("mistnet", MistNet()), ("transmitter", Transmitter())):
                require(getattr(self, key) == unused, f"{key} is set, but only algorithm mistnet reads it")
            return
        require(
            self.mistnet.cut_layer != "",
            "mistnet.cut_layer is missing; expected where the network is cut: 1 to 5 for YOLOv5, stem or layer1 for "
            "Faster R-CNN",
        )
        require(
            replace(self.aggregation, aggregation_type=Aggregation.aggregation_type) == Aggregation(),
            "aggregation has a rule or a limit, but algorithm mistnet has no updates that it could hold for",
        )
        require(
            self.mistnet.min_silos <= self.num_silos,
            f"mistnet.min_silos is {self.mistnet.min_silos}, but the job has {self.num_silos} silos",
        )
        object.__setattr__(self, "fl_iteration_num", self.mistnet.epochs)

    @property
    def participation(self) -> Participation:
        """How many silos a round needs."""
        return self.round.participation(self.aggregation_trigger)

    @property
    def has_tls(self) -> bool:
        """Whether the server and the management REST speak TLS."""
        return self.enable_ssl or self.auth.mode == "mtls"

    @property
    def silo_names(self) -> Tuple[str, ...]:
        """Names of the silos that may take part; empty where any name may."""
        return self.silos if isinstance(self.silos, tuple) else ()

    @property
    def num_silos(self) -> int:
        """How many silos the job expects."""
        return len(self.silo_names) or self.silos or self.round.start_fl_job_threshold  # type: ignore[return-value]


def load_federated(path: Union[str, os.PathLike], auth_dir: str = "") -> FederatedConfig:
    """Read and check the federated YAML. Raises UserError naming file and key.

    Keys of the mindspore-federated engine that nothing here reads are named on standard error.

    Args:
        auth_dir: takes the place of auth.dir, as the environment variable CROSS_SILO_AUTH_DIR does.
    """
    values, not_read = take_out(read_yaml(path), str(path))
    if not_read:
        print(f"note: {path}: nothing reads {', '.join(not_read)} with its engine", file=sys.stderr)
    config = build(FederatedConfig, values, str(path))
    chosen = auth_dir or os.environ.get(AUTH_DIR, "")
    return replace(config, auth=replace(config.auth, dir=chosen)) if chosen else config


def split_address(address: str, what: str, error: type = UserError) -> Tuple[str, int]:
    """Return (host, port) of ``host:port``; raises ``error`` naming ``what``."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise error(f"{what} is {address!r}, expected host:port")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Tell whether ``host`` (a name or a literal address) is this machine's loopback."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_protected(host: str, what: str, config: FederatedConfig) -> None:
    """Refuse an address that other machines reach, where ``config`` does not protect it. Raises UserError."""
    if is_loopback(host):
        return
    found = f"{what} is {host!r}, which other machines reach"
    if config.engine == "mindspore_federated":
        if os.environ.get(NO_AUTH) != "1":
            raise UserError(
                f"{found}, and engine {config.engine} lets in whoever reaches it: model and job are theirs; expected a "
                "loopback address (127.0.0.1), or --i_understand_no_auth in a network of your own"
            )
        return
    if config.auth.mode == "none":
        raise UserError(f"{found}, but auth.mode is none; expected mtls or token, or a loopback address (127.0.0.1)")
    if not config.has_tls:
        raise UserError(f"{found}, but tokens would travel in the clear; expected enable_ssl: true or auth.mode: mtls")
