"""What deserves a look in frames: counted by kind, each with its frames and its worst case, a line for each."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class _Kind:
    frames: int = 0
    last: str = ""
    worst: float = 0.0
    example: str = ""


@dataclass
class Doubts:
    """Doubts about frames, summed up; nothing grows with the number of frames."""

    kinds: dict[str, _Kind] = field(default_factory=dict)

    def add(self, kind: str, source: str, details: str, size: float = 1.0) -> None:
        """Count a doubt.

        Args:
            kind: what all such frames have or do, after "frames": the beginning of the line.
            source: the frame; several doubts of a kind in one frame count once.
            details: which atom or value; kept for the largest ``size``, the first of equals.
        """
        known = self.kinds.setdefault(kind, _Kind())
        known.frames += known.last != source
        known.last = source
        if size > known.worst or not known.example:
            known.worst, known.example = size, f"{source}: {details}"

    def warnings(self) -> list[str]:
        """One line per kind."""
        return [f"WARNING: {known.frames} frames {kind} ({known.example})" for kind, known in self.kinds.items()]
