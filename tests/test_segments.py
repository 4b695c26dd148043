"""Segments: labels of one value; which of them overlap, where, and how many layers keep them apart."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cases.label_bits import LabelVoxels, pack
from casestore.errors import CasestoreError
from exports.label_values import element_type, index_values, project_values
from exports.segments import MAX_LAYERS, ExportedLabel, Segment, segments_of, survey

SIZE = (6, 5, 4)


def exported(index: int, mask: np.ndarray, origin: tuple[int, int, int] = (0, 0, 0), **more: Any) -> ExportedLabel:
    """A label whose box is the mask (z, y, x)."""
    depth, height, width = mask.shape
    return ExportedLabel(
        index, more.get("name"), more.get("color"), LabelVoxels(pack(mask), origin, (width, height, depth))
    )


@st.composite
def masks(draw: st.DrawFn) -> tuple[tuple[int, int, int], np.ndarray]:
    """Where a box is, and its voxels; few are set, so that boxes overlap more often than voxels do."""
    origin = tuple(draw(st.integers(0, extent - 1)) for extent in SIZE)
    size = tuple(draw(st.integers(1, extent - o)) for extent, o in zip(SIZE, origin, strict=True))
    bits = draw(st.integers(0, 2 ** (size[0] * size[1] * size[2]) - 1)) & draw(st.integers(0, 2**120 - 1))
    flat = np.array([bits >> i & 1 for i in range(size[0] * size[1] * size[2])], bool)
    return origin, flat.reshape(size[::-1])  # type: ignore[return-value]


def in_volume(origin: tuple[int, int, int], box: np.ndarray) -> np.ndarray:
    whole = np.zeros(SIZE[::-1], bool)
    x, y, z = origin
    whole[z : z + box.shape[0], y : y + box.shape[1], x : x + box.shape[2]] = box
    return whole


@given(st.lists(st.tuples(masks(), st.integers(1, 5)), max_size=7))
def test_a_survey_says_what_a_loop_finds(chosen: list[tuple[tuple[tuple[int, int, int], np.ndarray], int]]) -> None:
    labels = [exported(index, box, origin) for index, ((origin, box), _) in enumerate(chosen)]
    segments = segments_of(labels, [value for _, value in chosen])
    found = survey(segments, SIZE)
    wholes = []
    for segment in segments:
        whole = np.zeros(SIZE[::-1], bool)
        for label in segment.labels:
            whole |= in_volume(*chosen[label.index][0])
            assert found.counts[label.index] == chosen[label.index][0][1].sum()
        later = np.zeros(SIZE[::-1], bool)
        for label in reversed(segment.labels):
            mask = in_volume(*chosen[label.index][0])
            assert found.visible[label.index] == (mask & ~later).sum()
            later |= mask
        wholes.append(whole)
    assert len({segment.value for segment in segments}) == len(segments)
    for i, whole in enumerate(wholes):
        places = np.argwhere(whole)[:, ::-1]
        box = tuple(np.column_stack([places.min(0), places.max(0)]).ravel().tolist()) if len(places) else None
        assert found.boxes[i] == box
        assert found.present[i].tolist() == whole.any(axis=(1, 2)).tolist()
    shared = {(a, b): int((wholes[a] & wholes[b]).sum()) for a, b in combinations(range(len(wholes)), 2)}
    assert found.overlaps == {pair: count for pair, count in shared.items() if count}
    assert found.layers is not None
    for i, layer in enumerate(found.layers):
        # The first one with room, decided in the segments' order.
        rooms = [n for n in range(layer + 1) if all(found.layers[j] != n or not shared[j, i] for j in range(i))]
        assert rooms == [layer]


def test_boxes_that_overlap_without_sharing_voxels_need_one_layer() -> None:
    checks = np.indices((2, 4, 4)).sum(axis=0) % 2 == 0
    found = survey(segments_of([exported(0, checks), exported(1, ~checks)], [1, 2]), SIZE)
    assert (found.layers, found.layer_count, found.overlaps) == ((0, 0), 1, {})


def test_too_many_layers() -> None:
    one = np.ones((1, 1, 1), bool)
    for count, layers in ((MAX_LAYERS, tuple(range(MAX_LAYERS))), (MAX_LAYERS + 1, None), (200, None)):
        found = survey(segments_of([exported(i, one) for i in range(count)], index_values(range(count))), SIZE)
        assert found.layers == layers
        assert (found.layer_count is None) == (layers is None)
        assert found.counts == dict.fromkeys(range(count), 1)


def test_layers_that_only_several_slices_together_need() -> None:
    """Slice by slice two planes are enough, but no two of the three can share one."""
    a, b, c = (np.zeros((3, 1, 2), bool) for _ in range(3))
    a[0, 0, 0] = b[0, 0, 0] = b[1, 0, 0] = c[1, 0, 0] = c[2, 0, 0] = a[2, 0, 0] = True
    found = survey(segments_of([exported(i, mask) for i, mask in enumerate((a, b, c))], [1, 2, 3]), SIZE)
    assert found.layers == (0, 1, 2)
    assert found.overlaps == {(0, 1): 1, (0, 2): 1, (1, 2): 1}


def test_empty() -> None:
    empty = ExportedLabel(3, None, None, LabelVoxels(b"", (0, 0, 0), (0, 0, 0)))
    for segments in ([], segments_of([empty], [4])):
        found = survey(segments, SIZE)
        assert found.is_empty
        assert found.layer_count == 1


def test_names_and_colours() -> None:
    one = np.ones((1, 1, 1), bool)
    named = Segment(3, (exported(2, one, name=" liver ", color="#0a64FF"),))
    assert (named.name, named.has_name, named.rgb, named.has_color) == ("liver", True, (10, 100, 255), True)
    for name in (None, "", "  \n"):
        nameless = Segment(3, (exported(2, one, name=name),))
        assert (nameless.name, nameless.has_name, nameless.has_color) == ("label002", False, False)
    assert len({Segment(value, (exported(value, one),)).rgb for value in range(1, 31)}) == 30
    merged = segments_of(
        [exported(0, one, name="a"), exported(1, one, name="b"), exported(2, one, name="c")], [7, 8, 7]
    )
    assert [(segment.value, segment.name, segment.identifier) for segment in merged] == [
        (7, "a", "label000"),
        (8, "b", "label001"),
    ]


def test_values() -> None:
    assert index_values([0, 2, 254]) == [1, 3, 255]
    assert project_values(["liver", "Leber", "liver"], {"liver": 5, "Leber": 5, "spleen": 300}) == [5, 5, 5]
    assert element_type([]) == element_type([1, 255]) == "uint8"
    assert element_type([1, 256]) == "uint16"


@pytest.mark.parametrize(
    ("names", "dictionary", "says"),
    [
        (["Liver"], {"liver": 1}, 'no value for the label "Liver"'),
        (["liver "], {"liver": 1}, "no value"),
        ([None], {"liver": 1}, "without a name"),
        ([""], {"": 1}, "without a name"),
        (["x" * 200], {}, "x" * 79 + '…"'),
        (["liver"], {"liver": 0}, "1 to 65535"),
        (["liver"], {"liver": 65536}, "1 to 65535"),
    ],
)
def test_labels_without_a_value(names: list[str | None], dictionary: dict[str, int], says: str) -> None:
    with pytest.raises(CasestoreError) as caught:
        project_values(names, dictionary)
    assert says in caught.value.sentence


def test_more_labels_than_values() -> None:
    with pytest.raises(CasestoreError):
        index_values([65535])
