"""Any interleaving of joins, pushes, sums, losses, time-outs, failed checkpoints and restarts keeps the promises.

Good rounds are counted right, no update counts twice, a model is the mean of the updates admitted in time and of no
other, an update whose push was granted is in the model of its attempt, and a round can always still be made.
"""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cross_silo.aggregation.rounds import AVERAGING, CLOSING, ENDED, IDLE, RUNNING, Rounds
from cross_silo.config.federated import Round
from cross_silo.config.participation import AggregationTrigger

SILOS = 4
START, UPDATE, GLOBAL = 10, 20, 50
silo = st.integers(0, SILOS - 1)


class _First:
    @staticmethod
    def draw(strategy):
        return 0


FIRST = _First()


class Worker:
    """One silo's process: its ticket, and the update that it has at hand."""

    def __init__(self, number):
        self.number, self.life, self.made = number, 0, 0
        self.silo = f"silo_{number}"
        self.ticket = self.update = None

    @property
    def name(self):
        return f"w{self.number}.{self.life}"

    @property
    def samples(self):
        return 10**self.number * (1 + self.life % 3)

    def trained(self):
        """Return the update for the ticket's round: the same one for all its attempts."""
        if self.update is None or self.update[:2] != (self.life, self.ticket[0]):
            self.made += 1
            self.update = self.life, self.ticket[0], (self.silo, self.made)
        return self.update[2]


class Interleavings(RuleBasedStateMachine):
    """The state machine beside a record of what was granted; the sum is a list, asked as the aggregator asks it."""

    @initialize(
        threshold=st.integers(1, SILOS), least=st.integers(0, SILOS), enough=st.integers(0, SILOS), draw=st.booleans()
    )
    def begin(self, threshold, least, enough, draw):
        most = max(1, threshold - 1) if draw else threshold
        enough = min(enough, most)
        least = min(least, enough or most)
        self.settings = Round(
            start_fl_job_threshold=threshold,
            select_num_clients=most if draw else 0,
            min_clients=least,
            start_fl_job_time_window=START * 1000,
            update_model_time_window=UPDATE * 1000,
            global_iteration_time_window=GLOBAL * 1000,
            max_consecutive_failures=1000,
        )
        trigger = AggregationTrigger(operator=">=", threshold=enough) if enough else AggregationTrigger()
        self.participation = self.settings.participation(trigger)
        self.now = 1000.0
        self.workers = [Worker(number) for number in range(SILOS)]
        self.live = set(range(SILOS))
        self.refused = set()  # (key, silo) of updates that were refused for good
        self.granted = {}  # key -> {silo: (update, samples)}
        self.waiting = []  # admitted, not yet added: (key, silo, update, samples)
        self.adding = None  # the one that holds the sum's lock
        self.sum_key, self.sum, self.divisor = None, [], None
        self.models = []
        self.outcomes = []
        self.rounds = self.serve(1, 1)

    def serve(self, iteration, attempt):
        def known():
            return {worker.silo: "h" if worker.number in self.live else "" for worker in self.workers}

        return Rounds(self.settings, 10**6, lambda: self.now, iteration, attempt, known, self.participation)

    # workers

    @rule(i=silo)
    def join(self, i):
        worker = self.workers[i]
        if self.rounds.state != RUNNING or self.rounds.phase in (AVERAGING, CLOSING):
            return
        self.live.add(i)
        answer = self.rounds.join(worker.silo, worker.name, "h", worker.samples)
        if answer.ok or answer.reason.startswith("Updating device metadata failed"):
            worker.ticket = self.rounds.key

    @rule(i=silo, again=st.booleans())
    def push(self, i, again):
        worker = self.workers[i]
        if worker.ticket is None:
            return
        key, update = worker.ticket, worker.trained()
        answer = self.rounds.admit(worker.silo, worker.name, key[0], key[1])
        if answer.ok:
            assert key == self.rounds.key
            assert worker.silo not in self.granted.setdefault(key, {})
            self.granted[key][worker.silo] = update, worker.samples
            self.waiting.append((key, worker.silo, update, worker.samples))
        if not again:
            worker.ticket = None

    @rule()
    def all_join(self):
        for i in range(SILOS):
            self.join(i)

    @rule(i=silo)
    def all_but_one_push(self, i):
        for worker in self.workers:
            if worker.number != i:
                self.push(worker.number, True)

    @rule(i=silo)
    def restart_worker(self, i):
        """A kill, and a successor that takes the silo before anybody noticed."""
        worker = self.workers[i]
        worker.life += 1
        worker.ticket = None

    @rule(i=silo)
    def lose(self, i):
        self.live.discard(i)
        self.rounds.lost(self.workers[i].silo, self.workers[i].name, "no heartbeat")

    @rule(i=silo)
    def refuse(self, i):
        """Its update is too far from the model."""
        worker = self.workers[i]
        if self.rounds.may_push(worker.silo, worker.name, self.rounds.iteration, None).ok:
            key = self.rounds.key
            self.rounds.lost(worker.silo, worker.name, "refused", for_good=True)
            self.refused.add((key, worker.silo))

    @rule(i=silo)
    def report(self, i):
        worker = self.workers[i]
        if worker.ticket is not None:
            self.rounds.report(worker.silo, worker.name, worker.ticket, "non-finite loss", "")

    # the server's threads

    @precondition(lambda self: self.waiting and self.adding is None)
    @rule(data=st.data())
    def begin_to_add(self, data):
        self.adding = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        key, silo_name, update, samples = self.adding
        if key != self.rounds.key:
            self.adding = None
            return
        last = self.rounds.completes()
        divisor = self.rounds.total_samples if last else None
        if key != self.sum_key:
            self.sum_key, self.sum = key, []
        self.sum.append((silo_name, update, samples))
        self.divisor = divisor

    @precondition(lambda self: self.waiting or self.adding)
    @rule()
    def add_all(self):
        while self.waiting or self.adding:
            if self.adding is None:
                self.begin_to_add(FIRST)
            if self.adding is not None:
                self.end_to_add()

    @precondition(lambda self: self.adding is not None)
    @rule()
    def end_to_add(self):
        key, silo_name, _, _ = self.adding
        self.adding = None
        self.rounds.added(key, silo_name, 0.5, {})

    @precondition(lambda self: self.adding is None and self.rounds.awaits_average)
    @rule()
    def average(self):
        assert self.divisor is None  # divided once
        self.divisor = self.rounds.total_samples
        assert self.rounds.averaged(self.rounds.key)

    @precondition(lambda self: self.rounds.phase == CLOSING)
    @rule(written=st.booleans())
    def close(self, written):
        if not written:
            self.rounds.fail("No space left on device")
            return
        key = self.rounds.key
        assert self.sum_key == key
        silos = [name for name, _, _ in self.sum]
        assert len(set(silos)) == len(silos) >= self.participation.least
        assert self.divisor == sum(samples for _, _, samples in self.sum)
        assert {name: (update, samples) for name, update, samples in self.sum} == self.granted[key]
        assert not set(silos) & set(self.rounds.left_out)
        assert len(silos) <= (self.participation.enough or self.participation.most)
        self.models.append([update for _, update, _ in self.sum])
        self.rounds.succeed()

    @rule(seconds=st.sampled_from([0, 1, START, UPDATE, GLOBAL]))
    def time_passes(self, seconds):
        self.now += seconds
        self.rounds.tick()

    @rule(once_in=st.integers(0, 4))
    def disable_and_enable(self, once_in):
        if once_in:
            return
        self.rounds.disable()
        self.rounds.enable()

    @rule(once_in=st.integers(0, 4))
    def restart_server(self, once_in):
        """kill -9: what is in memory is gone; the checkpoints and the attempt's number are not."""
        if once_in:
            return
        self.outcomes += self.rounds.take_outcomes()
        began = self.rounds.phase != IDLE
        self.rounds = self.serve(len(self.models) + 1, self.rounds.attempt + began)
        self.waiting, self.adding, self.sum_key = [], None, None

    # promises

    @invariant()
    def counts(self):
        if not hasattr(self, "rounds"):
            return
        assert self.rounds.good_rounds == len(self.models)
        self.outcomes += self.rounds.take_outcomes()
        assert [outcome.key[0] for outcome in self.outcomes if outcome.good] == list(range(1, len(self.models) + 1))
        keys = [outcome.key for outcome in self.outcomes]
        assert keys == sorted(set(keys))
        used = [update for model in self.models for update in model]
        assert len(used) == len(set(used))
        assert len(self.rounds.participants) <= self.participation.most
        assert not any((self.rounds.key, silo_name) in self.refused for silo_name in self.rounds.participants)
        assert (self.rounds.phase == IDLE) <= (not self.rounds.participants)

    def teardown(self):
        """Whatever happened, the silos can still make the round."""
        if not hasattr(self, "rounds"):
            return
        good = len(self.models)
        for _ in range(4 * SILOS):
            for i in range(SILOS):
                self.join(i)
            for worker in self.workers:
                self.add_all()
                if worker.ticket is not None and self.rounds.is_member(worker.silo, worker.name):
                    self.push(worker.number, True)
            self.add_all()
            if self.rounds.awaits_average:
                self.average()
            if self.rounds.phase == CLOSING:
                self.close(True)
                break
            self.time_passes(START)
        assert self.rounds.state not in ENDED
        assert len(self.models) == good + 1


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(
    max_examples=150, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
