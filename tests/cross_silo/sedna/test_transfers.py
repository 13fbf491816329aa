"""What is fetched before a role starts, and where and how the final model is written."""

import dataclasses
import datetime
import http.server
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cross_silo.checkpoint import CheckpointInfo, checkpoint_path, read_checkpoint, write_checkpoint
from cross_silo.errors import UserError
from cross_silo.objects import listing
from cross_silo.sedna.environment import Settings
from cross_silo.sedna.plan import Place, aggregator_plan, dataset_plan
from cross_silo.sedna.transfers import bring_dataset, bring_pre_trained, check_target, deliver, model_target, unpack

COMMON = {"JOB_NAME": "yolo", "PARTICIPANTS_COUNT": "2"}


def plan_of(directory, **environment):
    return aggregator_plan(Settings.from_env({**COMMON, **environment}), Place(directory / "run"))


@pytest.fixture
def web(tmp_path):
    """A directory that is served, and its url."""
    directory = tmp_path / "web"
    directory.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(directory))

        def log_message(self, *arguments):
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield directory, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "url, format, target",
    [
        ("/model/yolov5.pth", "", "/model/yolov5.pth"),
        ("s3://bucket/final.CKPT", "ckpt", "s3://bucket/final.CKPT"),
        ("/model", "", "/model/yolo.ckpt"),
        ("/model/", "pth", "/model/yolo.pth"),
    ],
)
def test_where_the_model_goes(tmp_path, url, format, target):
    assert model_target(plan_of(tmp_path, MODEL_URL=url), format) == target


@pytest.mark.parametrize("url, format", [("/model/yolo.pb", "pb"), ("/model", "hf")])
def test_formats_that_are_not_written(tmp_path, url, format):
    with pytest.raises(UserError, match="expected ckpt, safetensors, pth, pt"):
        model_target(plan_of(tmp_path, MODEL_URL=url), format)


def test_a_signature_is_in_no_name_of_a_file(tmp_path):
    place, query = Place(tmp_path / "run"), "?X-Amz-Signature=hidden"
    assert plan_of(tmp_path, PRETRAINED_MODEL_URL=f"https://h/yolov5.pth{query}").pre_trained.endswith("/yolov5.pth")
    assert dataset_plan(f"https://h/coco128.ZIP{query}", place, 0).local == f"{place.run_dir}/fetched/dataset_0/coco128"
    assert dataset_plan("s3://bucket/..", place, 0).local == f"{place.run_dir}/fetched/dataset_0/object"
    with pytest.raises(UserError) as caught:
        model_target(plan_of(tmp_path, MODEL_URL=f"https://h/yolo.pb{query}"))
    assert "not written as pb" in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_a_place_that_cannot_be_written_is_refused_early(tmp_path):
    target = tmp_path / "new" / "yolov5.pth"
    assert check_target(plan_of(tmp_path, MODEL_URL=str(target))) == str(target)
    assert list(target.parent.iterdir()) == []
    (tmp_path / "file").write_text("")
    for url in ("https://host/yolov5.pth", str(tmp_path / "file" / "yolov5.pth")):
        with pytest.raises(UserError, match=f"MODEL_URL is {url}: "):
            check_target(plan_of(tmp_path, MODEL_URL=url))


def test_place_of_a_model_is_tried_before_a_job_starts(s3_server, tmp_path):
    bucket = s3_server.bucket("models-of-a-job")
    plan = plan_of(tmp_path, MODEL_URL=f"s3://{bucket}/final.ckpt")
    assert check_target(plan, credentials=s3_server.credentials) == f"s3://{bucket}/final.ckpt"
    assert listing(f"s3://{bucket}", s3_server.credentials) == []
    bad = dataclasses.replace(s3_server.credentials, secret_key="WRONGWRONGWRONGWRONG")
    with pytest.raises(UserError, match="refuses the key"):
        check_target(plan, credentials=bad)
    nowhere = dataclasses.replace(plan, model_url="s3://nowhere-at-all/final.ckpt")
    with pytest.raises(UserError, match="no bucket 'nowhere-at-all'"):
        check_target(nowhere, credentials=s3_server.credentials)


def test_the_newest_model_is_delivered_whole(tmp_path):
    plan = plan_of(tmp_path, MODEL_URL=str(tmp_path / "model"))
    with pytest.raises(UserError, match="has no usable checkpoint of job 'yolo'"):
        deliver(plan)
    checkpoints = Path(plan.checkpoint_dir)
    checkpoints.mkdir(parents=True)
    for round in (1, 2):
        info = CheckpointInfo(fl_name="yolo", round=round)
        path = checkpoint_path(checkpoints, "yolo", round, datetime.datetime.now())
        write_checkpoint(path, {"w": np.full(3, round, np.float32)}, info)
    assert deliver(plan) == str(tmp_path / "model" / "yolo.ckpt")
    assert read_checkpoint(tmp_path / "model" / "yolo.ckpt")[1].round == 2


def test_a_model_that_cannot_be_converted_says_why(tmp_path):
    plan = plan_of(tmp_path, MODEL_URL=str(tmp_path / "yolov5.pth"))
    Path(plan.checkpoint_dir).mkdir(parents=True)
    path = checkpoint_path(plan.checkpoint_dir, "yolo", 1, datetime.datetime.now())
    write_checkpoint(path, {"w": np.ones(3, np.float32)}, CheckpointInfo(fl_name="yolo", round=1))
    with pytest.raises(UserError, match=r"yolo.pth: .*model.yaml"):  # which was not written
        deliver(plan)
    assert not (tmp_path / "yolov5.pth").exists()


def test_a_model_of_another_host_is_fetched_and_one_of_this_host_must_be_there(tmp_path, web):
    directory, url = web
    (directory / "yolov5.pth").write_bytes(b"weights")
    plan = plan_of(tmp_path, PRETRAINED_MODEL_URL=f"{url}/yolov5.pth")
    bring_pre_trained(plan)
    assert Path(plan.pre_trained).read_bytes() == b"weights"
    bring_pre_trained(plan_of(tmp_path))
    with pytest.raises(UserError, match="PRETRAINED_MODEL_URL is /none/yolov5.pth: no such file"):
        bring_pre_trained(plan_of(tmp_path, PRETRAINED_MODEL_URL="/none/yolov5.pth"))


def test_a_zip_is_fetched_and_unpacked_where_the_plan_reads_it(tmp_path, web):
    directory, url = web
    with zipfile.ZipFile(directory / "coco128.zip", "w") as archive:
        archive.writestr("coco128/images/train2017/1.jpg", b"image")
    plan = dataset_plan(f"{url}/coco128.zip", Place(tmp_path / "run"), 0)
    assert plan.local == f"{tmp_path}/run/fetched/dataset_0/coco128"
    image = Path(plan.local) / "coco128/images/train2017/1.jpg"
    bring_dataset(plan)
    inode = image.stat().st_ino
    bring_dataset(plan)
    assert (image.read_bytes(), image.stat().st_ino) == (b"image", inode)
    with zipfile.ZipFile(directory / "coco128.zip", "w") as archive:
        archive.writestr("coco128/images/train2017/2.jpg", b"image")
    bring_dataset(plan)
    assert [path.name for path in image.parent.iterdir()] == ["2.jpg"]
    with pytest.raises(UserError, match=r"a directory cannot be fetched so; expected s3://bucket/prefix or a .zip"):
        bring_dataset(dataclasses.replace(plan, url=f"{url}/coco128"))


def test_an_archive_does_not_write_elsewhere(tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("../outside", b"")
    with pytest.raises(UserError, match=r"\.\./outside would be outside of"):
        unpack(tmp_path / "bad.zip", tmp_path / "target")
    (tmp_path / "broken.zip").write_bytes(b"PK\3\4 cut")
    with pytest.raises(UserError, match="cannot be unpacked"):
        unpack(tmp_path / "broken.zip", tmp_path / "target")
    assert not (tmp_path / "target").exists()
    assert not (tmp_path / "outside").exists()
