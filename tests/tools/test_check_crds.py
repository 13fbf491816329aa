"""Manifests against CRDs: in the form in which controller-gen writes them, as strictly as an API server."""

import copy

import pytest
import yaml

from cross_silo.errors import UserError
from tools import check_crds

TEMPLATE = {
    "type": "object",
    "properties": {
        "metadata": {"type": "object"},
        "spec": {
            "type": "object",
            "required": ["containers"],
            "properties": {
                "containers": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": {"type": "string"},
                            "args": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "atomic"},
                            "port": {"type": "integer", "format": "int32"},
                            "grace": {"type": "integer", "format": "int64", "nullable": True},
                            "limits": {
                                "type": "object",
                                "additionalProperties": {
                                    "anyOf": [{"type": "integer"}, {"type": "string"}],
                                    "pattern": "^[0-9]+(Gi)?$",
                                    "x-kubernetes-int-or-string": True,
                                },
                            },
                        },
                    },
                },
                "gates": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            },
        },
    },
}
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "jobs.example.io"},
    "spec": {
        "group": "example.io",
        "names": {"kind": "Job", "plural": "jobs"},
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "required": ["spec"],
                        "properties": {
                            "apiVersion": {"type": "string"},
                            "kind": {"type": "string"},
                            "metadata": {"type": "object"},
                            "spec": {
                                "type": "object",
                                "required": ["template"],
                                "properties": {"template": TEMPLATE, "ws": {"type": "object"}},
                            },
                        },
                    }
                },
            },
            {"name": "v0", "served": False, "storage": False, "schema": {"openAPIV3Schema": {"type": "object"}}},
        ],
    },
}
JOB = {
    "apiVersion": "example.io/v1alpha1",
    "kind": "Job",
    "metadata": {"name": "j", "labels": {"a": "b"}},
    "spec": {
        "ws": {},
        "template": {
            "spec": {
                "containers": [
                    {"name": "a", "args": ["-i", "1"], "port": 1, "grace": None, "limits": {"memory": "8Gi"}}
                ],
                "gates": ["x", "y"],
                "free": {"anything": {"goes": 1}},
            }
        },
    },
}


@pytest.fixture
def crds(tmp_path):
    directory = tmp_path / "crds"
    directory.mkdir()
    (directory / "jobs.yaml").write_text("---\n" + yaml.safe_dump(CRD))
    (directory / "other.yaml").write_text("kind: List\n")
    return directory


def changed(change):
    job = copy.deepcopy(JOB)
    change(job["spec"]["template"]["spec"], job)
    return job


def test_valid(crds):
    assert check_crds.problems(JOB, check_crds.read_schemas(crds)) == []


@pytest.mark.parametrize(
    "change, expected",
    [
        (
            lambda spec, job: spec["containers"][0].update(port="1"),
            "spec.template.spec.containers[0].port: '1' is not of",
        ),
        (
            lambda spec, job: spec["containers"][0].update(args=["-i", 1]),
            "spec.template.spec.containers[0].args[1]: 1 is",
        ),
        (
            lambda spec, job: spec["containers"][0].update(image="x"),
            "containers[0]: Additional properties are not allowed",
        ),
        (lambda spec, job: spec["containers"][0].pop("name"), "'name' is a required property"),
        (lambda spec, job: spec["containers"][0].update(port=2**31), "is greater than the maximum"),
        (lambda spec, job: spec["containers"][0].update(limits={"memory": "8 GB"}), "does not match"),
        (lambda spec, job: spec["containers"].append({"name": "a"}), "containers[1]: Duplicate value: ['a']"),
        (lambda spec, job: spec["gates"].append("x"), "gates[2]: Duplicate value: x"),
        (lambda spec, job: job["spec"].update(stopCondition={}), "spec: Additional properties are not allowed"),
        (lambda spec, job: job["spec"]["ws"].update(a=1), "spec.ws: Additional properties are not allowed"),
        (
            lambda spec, job: job["spec"]["template"].update(metadata={"labels": {}}),
            "spec.template.metadata: Additional",
        ),
        (lambda spec, job: job.pop("spec"), ".: 'spec' is a required property"),
        (lambda spec, job: job["metadata"].pop("name"), "metadata: 'name' is a required property"),
        (lambda spec, job: job.update(kind="Jobs"), 'no matches for kind "Jobs" in version "example.io/v1alpha1"'),
        (
            lambda spec, job: job.update(apiVersion="example.io/v0"),
            'no matches for kind "Job" in version "example.io/v0"',
        ),
    ],
)
def test_refused(crds, change, expected):
    found = check_crds.problems(changed(change), check_crds.read_schemas(crds))
    assert any(expected in problem for problem in found), found


def test_kind_of_another_group_is_not_checked(crds):
    assert check_crds.problems({"apiVersion": "v1", "kind": "Secret"}, check_crds.read_schemas(crds)) is None


def test_command(crds, tmp_path, capsys):
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(yaml.safe_dump_all([JOB, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}]))
    bad.write_text(yaml.safe_dump(changed(lambda spec, job: spec.pop("containers"))))
    assert check_crds.main(["--crds", str(crds), "--manifests", str(good)]) == 0
    out = capsys.readouterr().out
    assert "Job/j: valid" in out and "Secret/s: no CRD for it, not checked" in out
    assert check_crds.main(["--crds", str(crds), "--manifests", str(good), str(bad)]) == 1
    assert "spec.template.spec: 'containers' is a required property" in capsys.readouterr().out


def test_no_crds(tmp_path):
    with pytest.raises(UserError, match="has no CustomResourceDefinition"):
        check_crds.read_schemas(tmp_path)
    (tmp_path / "x.yaml").write_text("a: [")
    with pytest.raises(UserError, match="x.yaml: not valid YAML"):
        check_crds.read_schemas(tmp_path)
