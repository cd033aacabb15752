"""Several runs of one model in one process: its weights are loaded once."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jfeval.models.base import Model


class LastModel:
    """The model that was loaded last, used again where the next run asks for the same, or for other settings of the same weights."""

    def __init__(self) -> None:
        self._asked: tuple[str, object] = ("", None)
        self._model: Model | None = None

    def load(self, name: str, **settings: object) -> "Model":
        """Load a model, or take the last one, under other settings where it can say how (`jfeval.models.base.Resettable`)."""
        from jfeval.registry import build_model, model_settings

        asked = (name, model_settings(name, settings))
        model = self._model if asked == self._asked else None
        if model is None and name == self._asked[0]:
            under = getattr(self._model, "under", None)
            model = under(asked[1]) if under is not None else None
        if model is None:
            self._model = None  # frees the last one before the next is loaded
            model = build_model(*asked)
        self._asked, self._model = asked, model
        return model
