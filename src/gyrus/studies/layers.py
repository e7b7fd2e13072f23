"""Whether the layers that a study names are there, asked before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator

from gyrus.errors import InputError
from gyrus.explain.layers import LayerSpec, resolve_layers
from gyrus.models import Classifier
from gyrus.studies.plans import Board, Joint, Maps
from gyrus.studies.recipe import Recipe
from gyrus.training import make_model


def require_layers(recipe: Recipe, scale: str) -> None:
    """Refuse a layer that the network of its training does not have.

    Raises:
        InputError: a step or a figure names one; it says which, and the nearest right ones.
    """
    skipped = recipe.scale(scale).skip
    models: dict[str, Classifier] = {}
    for where, training, layers in _named(recipe):
        if where in skipped or training in skipped:
            continue
        if training not in models:
            models[training] = _untrained(recipe, training, scale)
        try:
            resolve_layers(models[training], layers)
        except InputError as error:
            raise InputError(f"{where} looks at {training}: {error}") from None


def _named(recipe: Recipe) -> Iterator[tuple[str, str, LayerSpec]]:
    """Yield (step or figure, training, layers) for all that names some."""
    for key, analysis in recipe.analyses.items():
        if isinstance(analysis, Board | Joint):
            yield key, analysis.of, analysis.layers
        elif isinstance(analysis, Maps) and analysis.layer is not None:
            yield key, analysis.of, [analysis.layer]
    for figure in recipe.figures:
        if figure.options.get("layer") is not None:
            for training in figure.of:
                yield f"figure {figure.title!r}", training, [figure.options["layer"]]


def _untrained(recipe: Recipe, training: str, scale: str) -> Classifier:
    """Return a training's network with random weights: what its layers are called does not hang on its classes."""
    config = recipe.config(training, scale, seed=0).model_copy(update={"pretrained": "none"})
    return make_model(config, ("a", "b"), None)
