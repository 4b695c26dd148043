"""Records out of YAML: a list, or a document each, or documents that are lists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.cyaml import CParser  # type: ignore[attr-defined]  # the stubs leave it out
from yaml.resolver import Resolver

from casestore.dumps.records import Record, Unreadable

Found = Record | Unreadable


class _Loader(Composer, CParser, SafeConstructor, Resolver):
    """libyaml's parser under a composer that can be asked for one node at a time."""

    def __init__(self, stream: BinaryIO) -> None:
        CParser.__init__(self, stream)
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)


def yaml_records(file: BinaryIO) -> Iterator[Found]:
    loader: Any = _Loader(file)
    try:
        loader.get_event()  # the beginning of the stream
        while not loader.check_event(yaml.StreamEndEvent):
            loader.get_event()  # the beginning of a document
            yield from _of_document(loader)
            loader.get_event()  # and its end
            loader.anchors = {}
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        yield Unreadable(mark.line + 1 if mark else 1, "This is not valid YAML; nothing was read from here on.")


def _of_document(loader: Any) -> Iterator[Found]:
    if not loader.check_event(yaml.SequenceStartEvent):
        yield from _of_node(loader)
        return
    loader.get_event()
    while not loader.check_event(yaml.SequenceEndEvent):
        yield from _of_node(loader)
    loader.get_event()


def _of_node(loader: Any) -> Iterator[Found]:
    line = loader.peek_event().start_mark.line + 1
    node = loader.compose_node(None, None)
    try:
        value = loader.construct_document(node)
    except (yaml.YAMLError, ValueError, OverflowError):
        # A tag of another language, a date that does not exist, a key that cannot be one.
        yield Unreadable(line, "A value of this record is not one of YAML's.")
        return
    if isinstance(value, dict):
        yield Record(line, value)
    elif value is not None:
        yield Unreadable(line, "This is not an object.")
