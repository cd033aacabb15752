"""Settings that cannot train are refused by name before anything starts."""

from functools import partial

import pytest

from jfeval.errors import UserError
from jfeval.models.training.contrastive import ContrastiveSettings
from jfeval.models.training.diffusion import DiffusionSettings
from jfeval.models.training.features import FeaturesSettings
from jfeval.models.training.janusflow_objective import StageSettings
from jfeval.models.training.latents import LatentsSettings
from jfeval.models.training.lm import LmSettings
from jfeval.models.training.loop import LoopSettings
from jfeval.models.training.mixture import MixtureSettings
from jfeval.models.training.objectives import FlowSettings
from jfeval.models.training.ratios import Phase
from jfeval.models.training.rows import Source
from jfeval.models.training.sources import SourcesSettings
from jfeval.models.training.vae import VaeSettings

NAN, INF = float("nan"), float("inf")
LOOP = LoopSettings(steps=1, learning_rate=1.0)
WRONG = [
    *((partial(LoopSettings, steps=1), "learning_rate", value) for value in (NAN, INF, 0.0)),
    *((partial(LoopSettings, steps=1, learning_rate=1.0), "final_rate", value) for value in (-0.1, 1.1, NAN)),
    *((partial(LoopSettings, steps=1, learning_rate=1.0), name, NAN) for name in ("weight_decay", "clip", "ema", "beta1")),
    *((MixtureSettings, name, value) for name in ("prompt_tokens", "text_tokens", "conversation_tokens") for value in (0, -1)),
    *((MixtureSettings, name, -1) for name in ("turns", "pack_to", "understanding")),
    (partial(MixtureSettings, phases=(Phase(generation=1.0),)), "batch_size", -64),
    *((MixtureSettings, name, NAN) for name in ("describe", "short_captions", "long_captions")),
    *((partial(StageSettings, loop=LOOP), name, value) for name in ("answer_weight", "text_weight") for value in (NAN, INF, -1.0)),
    *((FlowSettings, "repa_weight", value) for value in (NAN, INF)),
    *((FlowSettings, name, -1) for name in ("repa_block", "repa_width")),
    *((FlowSettings, name, NAN) for name in ("time_location", "time_scale", "prompt_dropout")),
    *(
        (kind, "batch_size", value)
        for kind in (VaeSettings, LmSettings, ContrastiveSettings, LatentsSettings, FeaturesSettings, DiffusionSettings)
        for value in (0, -1)
    ),
    *((VaeSettings, name, NAN) for name in ("l1", "l2", "edges", "kl")),
    *((LmSettings, name, NAN) for name in ("captions", "chats", "texts")),
    (DiffusionSettings, "level_scale", NAN),
    *((partial(Source, name="s", kind="text"), "weight", value) for value in (NAN, INF, 0.0)),
    (partial(Source, name="s"), "kind", "generaton"),
    (partial(SourcesSettings, sources=(Source(name="s", kind="text"),)), "max_skipped", -1),
]


def called(make):
    return getattr(make, "func", make).__name__


@pytest.mark.parametrize(("make", "name", "value"), WRONG, ids=[f"{called(make)}.{name}={value}" for make, name, value in WRONG])
def test_impossible_settings_are_refused_by_name(make, name, value):
    with pytest.raises(UserError, match=name):
        make(**{name: value})
