"""Initial weights from the networks of another run: `model.pretrained=<run folder or checkpoint>`."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from gan_experiments.contracts import ConfigError
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.runs import resume

KEY = "model.pretrained"


def take_up(model: AdversarialModule, given: str) -> None:
    """Load the other run's weights into each network of the same name, and into its average; raises as `require`."""
    for name, state in require(model, given).items():
        getattr(model, name).load_state_dict(state)
        if name in model.averages:
            model.averages[name].network.load_state_dict(state)  # type: ignore[union-attr]


def require(model: AdversarialModule, given: str) -> dict[str, dict[str, Tensor]]:
    """Return the weights that another run has for networks of the model, by name; averaged ones if it has them.

    Raises ConfigError with one line if there is no such run, or it has none of these networks or one of another shape.
    """
    found = weights(given, model.network_names)
    if not found:
        raise ConfigError(f"{KEY}={given}: that run has no {' or '.join(model.network_names)}; type {KEY}= another one")
    for name, state in found.items():
        here, there = (_shapes(one) for one in (getattr(model, name).state_dict(), state))
        if apart := sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key)):
            sizes = [str(list(shapes[apart[0]])) if apart[0] in shapes else "none" for shapes in (there, here)]
            raise ConfigError(
                f"{KEY}={given}: its {name} is not like this one ({apart[0]}: {sizes[0]} there, {sizes[1]} here);"
                f" type {KEY}= a run with the same networks, or set model.{name} as it was there"
            )
    return found


def weights(given: str, names: tuple[str, ...], key: str = KEY) -> dict[str, dict[str, Tensor]]:
    """Return the state dicts of the named networks that a run folder or checkpoint has, of their averages if any.

    Raises ConfigError, which names the option `key`, if there is no such run.
    """
    whole = resume.load(resume.find(given, key), key)["state_dict"]
    found = {}
    for name in names:
        for prefix in (f"{name}.", f"averages.{name}.network."):
            if state := {k.removeprefix(prefix): value for k, value in whole.items() if k.startswith(prefix)}:
                found[name] = state
    return found


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(getattr(value, "shape", ())) for key, value in state.items()}
