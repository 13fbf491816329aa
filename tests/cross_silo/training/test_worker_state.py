"""A worker's state survives a restart whole or not at all."""

from __future__ import annotations

import numpy as np

from cross_silo.training.worker_state import Update, WorkerState, load_state, save_state


def make_state(value: float) -> WorkerState:
    weights = {"a/b.weight": np.full((2, 3), value, np.float32)}
    update = Update("instance", 4, loss=0.5, steps=7, train_seconds=1.5, weights=weights)
    return WorkerState(update, step=21, optimizer={"moments.a": np.full(3, -value, np.float32)})


def test_what_is_saved_is_read_again(tmp_path):
    path = tmp_path / "state.npz"
    save_state(path, make_state(1.0))
    save_state(path, make_state(2.0))
    state = load_state(path)
    assert (state.step, state.update.iteration, state.update.steps, state.update.loss) == (21, 4, 7, 0.5)
    np.testing.assert_array_equal(state.update.weights["a/b.weight"], np.full((2, 3), 2.0))
    np.testing.assert_array_equal(state.optimizer["moments.a"], np.full(3, -2.0))
    assert [file.name for file in tmp_path.iterdir()] == ["state.npz"]


def test_no_state_or_a_cut_one_is_none(tmp_path):
    path = tmp_path / "state.npz"
    assert load_state(path) is None
    save_state(path, make_state(1.0))
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:size])
        assert load_state(path) is None
