"""`millstream models policy`, `models load`, `models unload` and `models forget`."""

import sys
from dataclasses import replace

from millstream.cli.settings import ForgetSettings, LoadSettings, PolicySettings
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.connection.opening import open_broker
from millstream.common.broker.models.directory import forget_model, model_info, model_names, other_names
from millstream.common.broker.models.load_requests import LoadVerb, request_load
from millstream.common.broker.models.policy import read_policy, write_policy
from millstream.common.errors import BadRequest, ModelNotFound
from millstream.common.job import ModelName


async def set_policy(settings: PolicySettings) -> None:
    """Counts from the next job on. Raises `ModelNotFound`."""
    async with open_broker(settings) as broker:
        model = await _known(broker, settings.model)
        policy = await read_policy(broker, model)
        given = {"margin": settings.margin, "reserve": settings.reserve}
        policy = replace(policy, rule=settings.policy, **{name: n for name, n in given.items() if n is not None})
        await write_policy(broker, model, policy)
    sys.stdout.write(f"{model}: {policy.rule}, margin {policy.margin}, reserve {policy.reserve}\n")


async def forget(settings: ForgetSettings) -> None:
    """Raises `ModelNotFound`; `BadRequest` while something of the model is alive."""
    async with open_broker(settings) as broker:
        model = await _known(broker, settings.model)
        info = await model_info(broker, model)
        if info.live or info.waiting:
            raise BadRequest(f"{model} has {info.live} live workers and {info.waiting} waiting jobs.", param="model")
        await forget_model(broker, model)
    sys.stdout.write(f"{model} is no longer listed; a worker that serves it brings it back.\n")


async def ask_workers(settings: LoadSettings, verb: LoadVerb) -> None:
    """Asks for a model to be loaded or unloaded: one worker that is configured for it loads it; all that serve it
    unload it. Raises `ModelNotFound`."""
    async with open_broker(settings) as broker:
        model = await _known(broker, settings.model)
        await request_load(broker, model, verb)
    sys.stdout.write(f"{model}: asked to {verb}; `millstream models` shows its workers.\n")


async def _known(broker: Broker, name: str) -> ModelName:
    names = await model_names(broker)
    model = (await other_names(broker)).get(name, name)
    if model in names:
        return ModelName(model)
    raise ModelNotFound(f"No model '{name}'. There are: {', '.join(names) or 'none'}.", param="model")
