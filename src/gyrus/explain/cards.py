"""What a method is: its card, and the rule by which its kind makes a map."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from torch import Tensor

from gyrus.titles import METHOD_TITLES

Direction = Literal["evidence", "sensitivity", "activity"]
"""What a larger value says: it argues for the class (a negative one against it); the class score reacts more there,
either way; the layer is more active there, whatever the class."""

Where = Literal["any layer", "last layer", "all layers", "input"]
"""Where a method is defined: at any feature map; only where the class score is linear in it; over all the layers asked
for at once; on the pixels of the network's input."""

Option = int | float
Options = Mapping[str, Mapping[str, Option]]
"""Method name -> its options that differ from the card's."""

INPUT: Final = "input"
"""Stands where a layer's name would, for maps on the pixels of the network's input."""

FUSED: Final = "fused"
"""Stands where a layer's name would, for maps fused from all layers asked for."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Method:
    """A method's card; each kind below adds the rule.

    Attributes:
        name: in the registry, on the command line, in tables.
        paper: authors, year, equation.
        formula: of the raw map, in plain text; A is the layer's activation, G the gradient of the class score s there,
            x the input; sums over k are over channels, over ij over positions.
        signed: whether negative values occur in the raw map.
        direction: what a larger value says.
        where: what it is defined on.
        cost: passes through the network for one batch; "one pass" is shared by all methods that say so.
        options: what may be chosen, and the paper's choice.
    """

    name: str
    paper: str
    formula: str
    signed: bool
    direction: Direction = "evidence"
    where: Where = "any layer"
    cost: str = "one pass, shared"
    options: Mapping[str, Option] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """As its paper writes it."""
        return METHOD_TITLES[self.name]

    @property
    def needs_head(self) -> bool:
        """Whether it is defined only where the class score is linear in the layer."""
        return self.where == "last layer"

    @property
    def one_pass(self) -> bool:
        """Whether it is made from the one forward and backward pass that methods share."""
        return not isinstance(self, RepeatedMethod)

    def card(self) -> dict[str, Any]:
        """Return the card as JSON-able values, in reading order."""
        names = ("name", "title", "paper", "formula", "signed", "direction", "where", "needs_head", "cost", "one_pass")
        return {n: getattr(self, n) for n in names} | {"options": dict(self.options)}


@dataclass(frozen=True, slots=True, eq=False)
class LayerMethod(Method):
    """Arithmetic on one layer.

    Attributes:
        rule: (A, G, head weights or None) -> map: (N, K, h, w), (N, K, h, w), (N, K) -> (N, h, w).
    """

    rule: Callable[[Tensor, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class FusedMethod(Method):
    """One map from another method's maps at several layers.

    Attributes:
        rule: maps of (N, h, w), each layer at its own size -> (N, h, w) at the largest.
        base: the method that makes them.
    """

    rule: Callable[[Sequence[Tensor]], Tensor]
    base: LayerMethod


@dataclass(frozen=True, slots=True, eq=False)
class InputMethod(Method):
    """Arithmetic on the input.

    Attributes:
        rule: (x, gradient of the score in x) -> map: both (N, C, H, W) -> (N, H, W).
    """

    rule: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class FullMethod(Method):
    """A sum over the input's share of the score and every bias's share.

    Attributes:
        rule: a share (N, K, h, w) -> (N, h, w), at its own size.
        place: (N, h, w), (H, W) -> (N, H, W).
    """

    rule: Callable[[Tensor], Tensor]
    place: Callable[[Tensor, tuple[int, int]], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class RepeatedMethod(Method):
    """Whatever runs the network again and again.

    Attributes:
        rule: (subject, options by name) -> (N, h, w); see :class:`gyrus.explain.subject.Subject`.
    """

    rule: Callable[..., Tensor]
