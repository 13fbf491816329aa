"""The manifests in a file: YAML or JSON documents, or the here-documents of kubectl commands in a text.

Read as Kubernetes reads them: a key that stands twice is refused, dates stay text, null is the same as absent.
"""

from __future__ import annotations

import json
import re
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Dict, Hashable, Iterator, List, Tuple

import yaml

from cross_silo.errors import UserError
from cross_silo.sedna.forms import right_form

HEREDOC = re.compile(r"^(?=.*\bkubectl\b).*<<-?\s*(['\"]?)(\w+)\1")
MOST_BYTES = 4 << 20
MOST_VALUES = 100_000
"""Values of a document, each counted where it stands: aliases of aliases grow without bounds."""
MOST_DEPTH = 64


@dataclass(frozen=True)
class Document:
    """One manifest as it was read."""

    content: Dict[str, Any]
    where: str
    """File and first line."""


def read_documents(path: str) -> List[Document]:
    """Return the manifests in the file at ``path``; ``-`` is standard input.

    Raises:
        UserError: the file cannot be read, holds no manifest, or one that is no YAML, naming the line.
    """
    text = _read(path)
    documents: List[Document] = []
    for first_line, block in _blocks(path, text):
        documents += _parse(path, first_line, block)
    if not documents:
        raise UserError(f"{path}: holds no manifest; expected YAML or JSON, or kubectl commands with <<EOF")
    return documents


def _read(path: str) -> str:
    try:
        with nullcontext(sys.stdin.buffer) if path == "-" else open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise UserError(f"{path}: is larger than {MOST_BYTES >> 20} MiB; expected manifests")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text; expected manifests") from None


def _blocks(path: str, text: str) -> Iterator[Tuple[int, str]]:
    """Yield (number of the first line, text) of what is YAML: the here-documents, or everything where there is none."""
    lines = text.splitlines()
    openings = [number for number, line in enumerate(lines) if HEREDOC.match(line)]
    if not openings:
        yield 1, text
    end = -1
    for number in openings:
        if number <= end:
            continue
        word = HEREDOC.match(lines[number])[2]  # type: ignore[index]
        ends = (other for other in range(number + 1, len(lines)) if lines[other].strip() == word)
        end = next(ends, -1)
        if end < 0:
            raise UserError(f"{path}: line {number + 1}: <<{word} has no line {word} that ends it")
        yield number + 2, "\n".join(lines[number + 1 : end])


class _Loader(yaml.SafeLoader):
    """Refuses repeated keys; leaves dates as they are written."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str) and key_node.tag != "tag:yaml.org,2002:merge":
                raise yaml.MarkedYAMLError(problem=f"key {key!r} is no text", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f'key "{key}" already set in map', problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _parse(path: str, first_line: int, block: str) -> List[Document]:
    as_json = _as_json(block)
    if as_json:
        places = [(content, f"{path}:{first_line + line}") for line, content in as_json]
        return [Document(item, where) for content, where in places for item in _items(content, where)]
    documents = []
    loader = _Loader(block)
    try:
        while loader.check_data():
            mark = loader.peek_event().start_mark
            content = loader.get_data()
            where = f"{path}:{first_line + mark.line}"
            documents += [Document(item, where) for item in _items(content, where)]
    except yaml.MarkedYAMLError as error:
        line = first_line + (error.problem_mark.line if error.problem_mark else 0)
        hint = right_form(block)
        raise UserError(
            f"{path}: line {line}: not valid YAML: {error.problem}" + (f"; {hint}" if hint else "")
        ) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    finally:
        loader.dispose()
    return documents


def _as_json(block: str) -> List[Tuple[int, Any]]:
    """Return (line, content) of the documents in a block of JSON, whose tabs YAML would refuse, one after the other.

    None of a block that is no JSON, or repeats a key.
    """

    def pairs(items: List[Tuple[str, Any]]) -> Dict[str, Any]:
        if len(dict(items)) < len(items):
            raise ValueError
        return dict(items)

    decoder, found, at = json.JSONDecoder(object_pairs_hook=pairs), [], 0
    try:
        while (start := at + len(block[at:]) - len(block[at:].lstrip())) < len(block):
            if block[start] != "{":
                return []
            content, at = decoder.raw_decode(block, start)
            found.append((block.count("\n", 0, start), content))
    except (ValueError, RecursionError):
        return []
    return found


def _items(content: Any, where: str) -> List[Dict[str, Any]]:
    """Return the manifests of a document: none of an empty one, the items of a list."""
    if content is None:
        return []
    if not isinstance(content, dict):
        raise UserError(f"{where}: found {type(content).__name__}, expected a manifest with apiVersion and kind")
    _check_size(content, where)
    content = without_nulls(content)
    if content.get("kind") == "List" and isinstance(content.get("items"), list):
        return [item for entry in content["items"] for item in _items(entry, where)]
    return [content]


def _check_size(content: Any, where: str) -> None:
    waiting, count = [(content, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if count > MOST_VALUES or depth > MOST_DEPTH:
            raise UserError(
                f"{where}: has more than {MOST_VALUES} values, or more than {MOST_DEPTH} one in another; "
                "expected a manifest"
            )
        if isinstance(value, (dict, list)):
            waiting += ((item, depth + 1) for item in (value.values() if isinstance(value, dict) else value))


def without_nulls(value: Any) -> Any:
    """Return ``value`` without keys whose value is null: the API server drops them."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value
