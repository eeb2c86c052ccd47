"""Doctor tells which upstreams compute, what they can, and how exactly answers go on."""

from millstream.cli.inspect.diagnosis import exactnesses, upstreams
from millstream.common.broker.models.directory import ModelInfo, WorkerInfo
from millstream.common.job import ModelName, WorkerId

MODEL = ModelName("m")
CARD = {"upstream": "http://gpu:8080", "upstream_server": "llama.cpp", "upstream_can": "chat, seed"}


def info(alive: bool, **told: str) -> ModelInfo:
    worker = WorkerInfo(WorkerId("w1"), MODEL, alive=alive, load=0, slots=1, speed=0, details=told)
    return ModelInfo(MODEL, [worker], 0, exactness={"chat": "text", "tools": "restart"})


def test_what_an_upstream_can_and_cannot_is_told() -> None:
    [finding] = upstreams([info(True, **CARD, upstream_cannot="images")])
    assert finding.grade == "good"
    assert all(word in finding.what for word in ("w1", "http://gpu:8080", "llama.cpp", "chat, seed", "images"))
    assert not list(upstreams([info(True, engine="transformers"), info(False, **CARD, upstream_cannot="")]))


def test_how_exactly_answers_go_on_is_told_of_models_that_are_served() -> None:
    [finding] = exactnesses([info(True)])
    assert finding.what.endswith("chat text, tools restart")
    assert not list(exactnesses([info(False)]))
