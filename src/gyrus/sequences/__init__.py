"""Which MRI sequence a 2-D slice is of: T1, T1 after contrast medium, T2, FLAIR, or none that can be told."""

from __future__ import annotations

from gyrus.sequences.recogniser import SequenceGuess, recognise_sequences

__all__ = ["SequenceGuess", "recognise_sequences"]
