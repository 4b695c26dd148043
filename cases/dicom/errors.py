"""Why a file is not taken."""

from __future__ import annotations


class DicomRefused(Exception):
    """The sentence says why, and never quotes the data set: it may hold the patient's name."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
