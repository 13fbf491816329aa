"""Many threads at once: admission is atomic, no update is lost or added twice, whatever leaves or is late."""

import threading
import time

import numpy as np
import pytest

from cross_silo.aggregation.aggregator import Aggregator
from cross_silo.aggregation.guarded_store import GuardedStore
from cross_silo.aggregation.leases import Leases
from cross_silo.aggregation.models import MAX_MESSAGES, ModelStore
from cross_silo.aggregation.rounds import Rounds
from cross_silo.aggregation.update import CheckedUpdate
from cross_silo.config.federated import Round
from cross_silo.config.participation import AggregationTrigger

SILOS, ROUNDS = 6, 20
SIZES = {"a": 1000, "b": 3}


@pytest.fixture
def make(store):
    """Make an aggregator whose closing thread and clock run; ``saved`` has each round's model."""
    stop = threading.Event()
    threads = []

    def aggregator(trigger=None, **settings):
        settings = Round(start_fl_job_threshold=4, max_consecutive_failures=10_000, **settings)
        participation = settings.participation(AggregationTrigger(**(trigger or {})))
        rounds = Rounds(settings, ROUNDS, time.monotonic, participation=participation)
        models = ModelStore(SIZES)
        models.load({name: np.zeros(size, np.float32) for name, size in SIZES.items()}, 0)
        leases = Leases(GuardedStore(store), 60, (), SILOS, time.monotonic)
        saved = {}

        def save(round, tensors):
            saved[round] = {name: values.copy() for name, values in tensors.items()}
            return f"{round}.ckpt"

        made = Aggregator(rounds, leases, models, save)
        made.saved = saved

        def tick():
            while not stop.wait(0.005):
                made.tick()

        for task in (lambda: made.close_rounds(stop), tick):
            threads.append(threading.Thread(target=task, daemon=True))
            threads[-1].start()
        return made

    yield aggregator
    stop.set()
    for thread in threads:
        thread.join()


def work(aggregator, i, taken, seed):
    """A silo that joins, pushes a value of its own once or twice, is sometimes late and sometimes gives up."""
    random = np.random.default_rng([seed, i])
    silo, samples = f"silo_{i}", i + 1
    deadline = time.monotonic() + 60
    while aggregator.rounds.state == "running" and time.monotonic() < deadline:
        answer = aggregator.start_round(silo, "", samples, wait=0.2)
        if answer is None or not (answer.ok or answer.reason.startswith("Updating device metadata failed")):
            time.sleep(0.002)
            continue
        iteration, attempt = answer.key
        if random.random() < 0.1:
            aggregator.report(silo, "", iteration, attempt, "gave up", "")
            continue
        time.sleep(random.choice([0.0, 0.0, 0.002, 0.03]))
        value = int(random.integers(1, 1000))
        tensors = {name: np.full(size, value * samples, np.float32) for name, size in SIZES.items()}
        update = CheckedUpdate(tensors, samples, loss=0.5)
        for _ in range(random.integers(1, 3)):
            pushed = aggregator.push(silo, "", iteration, attempt, update)
            if pushed.ok:
                assert (answer.key, silo) not in taken
                taken[answer.key, silo] = value, samples
        reading = aggregator.model(iteration, attempt, "", wait=20).reading
        if reading is not None:
            reading.close()


@pytest.mark.parametrize(
    ("trigger", "settings"),
    [
        (None, {}),
        (None, {"min_clients": 2, "update_model_time_window": 20, "start_fl_job_time_window": 20}),
        ({"operator": ">", "threshold": 1}, {}),
        (None, {"select_num_clients": 3, "update_model_ratio": 0.5, "update_model_time_window": 20}),
    ],
    ids=["all", "k of n", "trigger", "draw"],
)
def test_models_are_the_means_of_what_was_taken(make, trigger, settings):
    aggregator = make(trigger, **settings)
    taken = {}
    threads = [threading.Thread(target=work, args=(aggregator, i, taken, 3), daemon=True) for i in range(SILOS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=90)
    assert (aggregator.rounds.state, aggregator.rounds.good_rounds) == ("finished", ROUNDS)
    records = aggregator.take_records()
    good = [record for record in records if record["good"]]
    assert [record["round"] for record in good] == list(range(1, ROUNDS + 1)) == sorted(aggregator.saved)
    least, most = aggregator.rounds.participation.least, aggregator.rounds.participation.most
    for record in good:
        key = record["round"], record["attempt"]
        updates = {silo: of for (of_key, silo), of in taken.items() if of_key == key}
        assert set(updates) == {each["silo"] for each in record["participants"]}
        assert least <= len(updates) <= most
        mean = sum(value * samples for value, samples in updates.values()) / sum(s for _, s in updates.values())
        for values in aggregator.saved[record["round"]].values():
            np.testing.assert_allclose(values, mean, rtol=1e-5)
    assert len(aggregator.models._messages) <= MAX_MESSAGES
