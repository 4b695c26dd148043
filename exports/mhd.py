"""MetaImage headers (https://itk.org/Wiki/ITK/MetaIO/Documentation). Plain Python, no Django."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

ELEMENT_TYPES = {
    "uint8": "MET_UCHAR",
    "int8": "MET_CHAR",
    "uint16": "MET_USHORT",
    "int16": "MET_SHORT",
    "int32": "MET_INT",
    "float32": "MET_FLOAT",
}
LINE_ENDINGS = {"lf": "\n", "crlf": "\r\n"}
# MetaIO names the side that an axis comes from: DICOM's L, P, S axes run towards left, posterior and superior.
LETTERS = ("RL", "AP", "IS")
ALIGNED = 1e-6


def header(
    *,
    spacing: Sequence[float],
    origin: Sequence[float],
    direction: Sequence[float],
    size: Sequence[int],
    channels: int,
    element_type: str,
    data_file: str,
    line_ending: str,
) -> bytes:
    """The content of a .mhd file.

    `spacing`, `origin` in mm and `size` are (x, y, z); `direction` is a 3x3 matrix, row by row, whose columns are the
    directions of x, y and z in DICOM's LPS. MetaIO lists the matrix axis by axis. Numbers have as many digits as it
    takes to read the same double again.
    """
    axes = [[float(direction[3 * row + column]) for row in range(3)] for column in range(3)]
    lines = [
        "ObjectType = Image",
        "NDims = 3",
        "BinaryData = True",
        "ElementByteOrderMSB = False",
        "CompressedData = False",
        f"TransformMatrix = {_numbers(value for axis in axes for value in axis)}",
        f"Offset = {_numbers(origin)}",
        "CenterOfRotation = 0 0 0",
    ]
    if orientation := anatomical_orientation(axes):
        lines.append(f"AnatomicalOrientation = {orientation}")
    lines += [f"ElementSpacing = {_numbers(spacing)}", f"DimSize = {' '.join(str(int(n)) for n in size)}"]
    if channels != 1:
        lines.append(f"ElementNumberOfChannels = {channels}")
    lines += [f"ElementType = {ELEMENT_TYPES[element_type]}", f"ElementDataFile = {data_file}"]
    ending = LINE_ENDINGS[line_ending]
    return "".join(line + ending for line in lines).encode("ascii")


def anatomical_orientation(axes: Sequence[Sequence[float]]) -> str | None:
    """Three letters, the sides that x, y and z come from, as in `RAI`; None where an axis is oblique."""
    letters = ""
    for axis in axes:
        along = max(range(3), key=lambda i: abs(axis[i]))
        if abs(abs(axis[along]) - 1) > ALIGNED:
            return None
        letters += LETTERS[along][int(axis[along] < 0)]
    return letters


def _numbers(values: Iterable[float]) -> str:
    return " ".join(map(_number, values))


def _number(value: float) -> str:
    """`0.1`, `5`, `1e-07`; never `-0`."""
    value = float(value)
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
