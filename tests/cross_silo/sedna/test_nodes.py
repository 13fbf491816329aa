"""The nodes of a cluster: a list of names, or what kubectl prints."""

import json

import pytest

from cross_silo.errors import UserError
from cross_silo.sedna.nodes import read_nodes

NODE_LIST = {"kind": "List", "items": [{"kind": "Node", "metadata": {"name": name}} for name in ("cloud", "edge1")]}


@pytest.mark.parametrize(
    "text",
    [
        "cloud\nedge1\n",
        "# the plant's\ncloud\n\nedge1",
        "- cloud\n- edge1\n",
        json.dumps(NODE_LIST),
        json.dumps(NODE_LIST, indent=4),
    ],
)
def test_forms(tmp_path, text):
    (tmp_path / "nodes").write_text(text)
    assert read_nodes(str(tmp_path / "nodes")) == {"cloud", "edge1"}


def test_one_node(tmp_path):
    (tmp_path / "nodes").write_text("kind: Node\nmetadata: {name: cloud}\n")
    assert read_nodes(str(tmp_path / "nodes")) == {"cloud"}


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "names no node"),
        ("NAME STATUS\n", "'NAME' is no node's name"),
        ("- 4\n", "4 is no node's name"),
        ("items: [{kind: Node}]\n", "None is no node's name"),
        ("a: [", "cannot be read"),
    ],
)
def test_what_names_no_nodes(tmp_path, text, message):
    (tmp_path / "nodes").write_text(text)
    with pytest.raises(UserError, match=message):
        read_nodes(str(tmp_path / "nodes"))


def test_no_file(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_nodes(str(tmp_path / "none"))
