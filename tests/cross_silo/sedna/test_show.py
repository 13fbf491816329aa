"""The plan as a shell script: it writes the same files and names the same commands."""

import dataclasses
import shlex
import subprocess

from cross_silo.sedna.show import as_shell
from cross_silo.sedna.writing import to_yaml
from tests.support.sedna_manifests import changed, planned


def test_the_script_writes_the_plans_files_and_runs_its_commands(tmp_path):
    odd = {f"data_1.spec.{name}": value for name, value in {"classes": ["EOF", "a'b `id`"], "num_classes": 2}.items()}
    plan = planned(tmp_path, changed(odd), extensions=True).plan
    calls = tmp_path / "calls"
    recorder = ("sh", "-c", f'echo "$JOB_NAME" "$@" >> {shlex.quote(str(calls))}', "sh")

    def recorded(part):
        return dataclasses.replace(part, commands=tuple((*recorder, *command[1:]) for command in part.commands))

    trainers = tuple(
        dataclasses.replace(recorded(trainer), dataset=dataclasses.replace(trainer.dataset, command=("true",)))
        for trainer in plan.trainers
    )
    plan = dataclasses.replace(plan, aggregator=recorded(plan.aggregator), trainers=trainers)
    subprocess.run(["sh", "-e"], input=as_shell(plan), text=True, check=True, cwd=tmp_path)
    for part in (plan.aggregator, *plan.trainers):
        for path, content in ((part.federated_file, part.federated), (part.model_file, part.model)):
            with open(path, encoding="utf-8") as file:
                assert file.read() == to_yaml(content)
    with open(plan.trainers[0].dataset.classes_file, encoding="utf-8") as file:
        assert file.read() == "EOF\na'b `id`\n"
    lines = calls.read_text().splitlines()
    assert [line.split()[1].rpartition("/")[2] for line in lines] == [
        *("run_sched.py", "run_server.py", "run_worker.py", "run_worker.py")
    ]
    assert {line.split()[0] for line in lines} == {"yolo"}


def test_the_head_has_the_notes_in_one_line_each(tmp_path):
    plan = planned(tmp_path, changed({"start.spec.url": "https://host/yolov5.pth?signature=hidden"})).plan
    aggregator = dataclasses.replace(plan.aggregator, node="cloud\nreboot", environment={})
    plan = dataclasses.replace(plan, notes=("a\nrm -rf b",), aggregator=aggregator, trainers=plan.trainers[:1])
    text = as_shell(dataclasses.replace(plan, trainers=(dataclasses.replace(plan.trainers[0], environment={}),)))
    assert "# aggregator on cloud reboot" in text.splitlines()
    assert any(line.startswith("# https://host/yolov5.pth?... is fetched to ") for line in text.splitlines())
    assert "hidden" not in text  # the signature is in variables alone
    assert "# note: a rm -rf b" in text.splitlines()
    assert "# training worker 1 (silo_0) on edge1" in text.splitlines()
