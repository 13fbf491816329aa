"""An update beyond the limit, by real processes: the round is made of the others', and its worker goes on."""

import numpy as np
import pytest

from tests.support.federation import Federation
from tests.support.numpy_trainer import SHAPES, NumpyTrainer

SAMPLES = {"silo_0": 10, "silo_1": 30, "silo_2": 20}
LIMIT = 4.3
"""In round 1 the norms are 4.51, 3.42 and 4.10."""
STEPS = 5


@pytest.fixture
def job(tmp_path, redis_address, free_port):
    settings = {"start_fl_job_threshold": 3, "min_clients": 2}
    made = Federation(
        tmp_path, redis_address, free_port, rounds=2, round=settings, aggregation={"max_update_norm": LIMIT}
    )
    yield made
    made.close()


def norm(weights, model):
    trainable = (weights[name] - model[name] for name in ("head.weight", "head.bias"))
    return np.sqrt(sum(np.square(difference.astype(np.float64)).sum() for difference in trainable))


def by_hand():
    """All silos train in every round; the mean, weighted by samples, is over those within the limit."""
    model = {name: np.ones(shape, np.float32) for name, shape in SHAPES.items()}
    trainers = {silo: NumpyTrainer(silo) for silo in SAMPLES}
    taken = []
    for _ in range(2):
        pushed = {}
        for silo, trainer in trainers.items():
            trainer.set_weights(model)
            trainer.train(STEPS, lambda record: None)
            if norm(trainer.get_weights(), model) <= LIMIT:
                pushed[silo] = trainer.get_weights()
        total = sum(SAMPLES[silo] for silo in pushed)
        model = {
            name: sum(np.float64(pushed[silo][name]) * SAMPLES[silo] for silo in pushed) / total for name in SHAPES
        }
        model = {name: values.astype(np.float32) for name, values in model.items()}
        taken.append(sorted(pushed))
    return model, taken


def test_a_round_is_made_without_it_and_the_next_one_from_the_newest_model(job):
    expected, taken = by_hand()
    assert taken == [["silo_1", "silo_2"], ["silo_0", "silo_1", "silo_2"]]
    server = job.server()
    workers = [job.worker(i, num_samples=samples) for i, samples in enumerate(SAMPLES.values())]
    assert [job.status(process) for process in (*workers, server)] == [0] * 4
    summary = job.summary()
    assert summary["failed_attempts"] == 0
    assert [sorted(record["losses"]) for record in summary["rounds"]] == taken
    assert summary["rounds"][0]["left_out"]["silo_0"].startswith("its update was refused: its norm is 4.511")
    norms = {each["silo"]: each["update_norm"] for each in summary["rounds"][0]["participants"]}
    assert norms == {"silo_1": pytest.approx(3.417, abs=1e-3), "silo_2": pytest.approx(4.102, abs=1e-3)}
    for name, values in job.model()[1].items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-5, atol=1e-6)
    assert summary["refused_updates"] == {"silo_0": {"norm": 1}}
    assert "an update of silo silo_0 is refused (norm)" in job.log("server.log")
    assert "is not taken: round 1 goes on without silo silo_0: its update was refused" in job.log("worker_0.log")
    assert job.status(job.server()) == 0  # has nothing left to do
    assert job.summary()["refused_updates"] == {"silo_0": {"norm": 1}}
