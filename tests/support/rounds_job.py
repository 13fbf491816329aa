"""Rounds under a clock of the test's own, asked as the aggregator asks them."""

from cross_silo.aggregation.rounds import Rounds
from cross_silo.config.federated import Round

SETTINGS = Round(
    start_fl_job_threshold=2,
    start_fl_job_time_window=300_000,
    update_model_time_window=600_000,
    global_iteration_time_window=3_600_000,
    max_consecutive_failures=3,
)


class Job:
    """Rounds of silos 0, 1, ... with workers w0, w1, ..."""

    def __init__(self, settings=SETTINGS, last=5, **arguments):
        self.now = 1000.0
        self.rounds = Rounds(settings, last, lambda: self.now, **arguments)

    def join(self, i, samples=10):
        return self.rounds.join(f"silo_{i}", f"w{i}", f"host:{i}", samples)

    def admit(self, i, iteration=None, attempt=None):
        return self.rounds.admit(f"silo_{i}", f"w{i}", iteration or self.rounds.iteration, attempt)

    def add(self, i, loss=0.5):
        """Add an admitted update; the one that completes the round is divided with it."""
        self.rounds.completes()
        return self.rounds.added(self.rounds.key, f"silo_{i}", loss, {"steps": 3})

    def push(self, i, loss=0.5):
        answer = self.admit(i)
        assert answer.ok, answer.reason
        return self.add(i, loss)

    def lose(self, i, why="no heartbeat for 15 s"):
        return self.rounds.lost(f"silo_{i}", f"w{i}", why)

    def average(self):
        """Divide the sum, as the closing thread does where the last update was not known as such."""
        assert self.rounds.awaits_average
        assert self.rounds.averaged(self.rounds.key)

    def make_round(self, *silos):
        for i in silos or (0, 1):
            assert self.join(i).ok
        pushed = [self.push(i) for i in silos or (0, 1)]
        assert pushed == [False] * (len(pushed) - 1) + [True]
        self.rounds.succeed()

    def outcome(self):
        (outcome,) = self.rounds.take_outcomes()
        return outcome
