"""Which model a server begins with."""

import datetime
import sys

import numpy as np
import pytest

from cross_silo.aggregation import initial
from cross_silo.aggregation.initial import find_model
from cross_silo.checkpoint import CheckpointInfo, checkpoint_path, write_checkpoint
from cross_silo.errors import UserError

WEIGHTS = {"w": np.float32([1, 2, 3])}


def write(directory, round):
    path = checkpoint_path(directory, "job", round, datetime.datetime.now())
    write_checkpoint(path, {"w": WEIGHTS["w"] * round}, CheckpointInfo(fl_name="job", round=round))
    return path


def find(directory, config=None, pre_trained=""):
    return find_model(directory, "job", "job.yaml", config, pre_trained)


def test_the_newest_usable_checkpoint(tmp_path):
    for n in (0, 1, 2):
        path = write(tmp_path, n)
    path.write_bytes(path.read_bytes()[:-20])
    tensors, info = find(tmp_path)
    assert info.round == 1
    np.testing.assert_array_equal(tensors["w"], WEIGHTS["w"])


def test_only_damaged_checkpoints(tmp_path):
    write(tmp_path, 1).write_bytes(b"nothing")
    with pytest.raises(UserError, match="every checkpoint of job 'job' is damaged"):
        find(tmp_path, config="model.yaml")


def test_none_at_all_names_the_command(tmp_path):
    with pytest.raises(
        UserError, match="python tools/init_model.py --config MODEL.yaml --checkpoint_dir .* --fl_name job"
    ):
        find(tmp_path)


def test_a_checkpoint_of_another_model_is_refused(child, tmp_path, monkeypatch):
    monkeypatch.setattr(initial, "CHECK_MODULE", "child_of_the_test")
    path = write(tmp_path, 2)
    child("import sys; sys.exit('error: it is of another model: ' + sys.argv[-1])")
    with pytest.raises(UserError, match=f"--config model.yaml: it is of another model: {path}"):
        find(tmp_path, config="model.yaml")
    child("")
    assert find(tmp_path, config="model.yaml")[1].round == 2


@pytest.fixture
def child(monkeypatch, tmp_path):
    """Put a script of the test's own in place of the module that makes the initial model."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", ":".join([str(tmp_path), *sys.path]))
    monkeypatch.setattr(initial, "INIT_MODULE", "child_of_the_test")

    def script(text):
        (tmp_path / "child_of_the_test.py").write_text(text)

    return script


def test_the_initial_model_is_made_by_a_child(child, tmp_path):
    child(
        "import sys, datetime, numpy as np\n"
        "from cross_silo.checkpoint import *\n"
        "arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))\n"
        "assert arguments['--config'] == 'model.yaml' and arguments['--pre_trained'] == 'p.ckpt', arguments\n"
        "assert arguments['--fl_name'] == 'job' and arguments['--yaml_config'] == 'job.yaml', arguments\n"
        "path = checkpoint_path(arguments['--checkpoint_dir'], 'job', 0, datetime.datetime.now())\n"
        "write_checkpoint(path, {'w': np.float32([4])}, CheckpointInfo(fl_name='job'))\n"
    )
    tensors, info = find(tmp_path, "model.yaml", "p.ckpt")
    assert (tensors["w"].tolist(), info.round) == ([4.0], 0)


def test_the_childs_error_is_told(child, tmp_path):
    child("import sys\nprint('error: --config model.yaml: no such file', file=sys.stderr)\nsys.exit(2)\n")
    with pytest.raises(UserError, match="the initial model could not be made: --config model.yaml: no such file"):
        find(tmp_path, "model.yaml")


def test_a_child_that_leaves_nothing(child, tmp_path):
    child("")
    with pytest.raises(UserError, match="left no checkpoint of job 'job'"):
        find(tmp_path, "model.yaml")
