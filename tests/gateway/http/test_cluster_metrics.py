"""/metrics tells of the workers too, which open no port of their own."""

from millstream.common.broker.models.directory import ModelInfo, WorkerInfo
from millstream.common.job import ModelName, WorkerId
from millstream.gateway.http.cluster_metrics import cluster_text

DETAILS = {"tokens": "120", "wasted": "3", "kv_use": "0.25", "prefix_hit_rate": "0.5"}


def lines_of(*models: ModelInfo) -> set[str]:
    return set(cluster_text(models).decode().splitlines())


def test_every_live_worker_and_every_queue_is_told() -> None:
    alive = WorkerInfo(WorkerId("w1"), ModelName("m"), True, 2, 8, 40.5, DETAILS)
    dead = WorkerInfo(WorkerId("w2"), ModelName("m"), False, 0, 8, 0.0)
    lines = lines_of(ModelInfo(ModelName("m"), [alive, dead], waiting=7))
    assert {
        'millstream_model_waiting_jobs{model="m"} 7.0',
        'millstream_model_live_workers{model="m"} 1.0',
        'millstream_worker_load{model="m",worker="w1"} 2.0',
        'millstream_worker_tokens_total{model="m",worker="w1"} 120.0',
        'millstream_worker_tokens_after_client_left_total{model="m",worker="w1"} 3.0',
        'millstream_worker_prefix_hit_ratio{model="m",worker="w1"} 0.5',
    } <= lines
    assert not [line for line in lines if "w2" in line]


def test_a_worker_of_a_model_with_two_names_is_told_once() -> None:
    worker = WorkerInfo(WorkerId("w1"), ModelName("m"), True, 2, 8, 40.5, DETAILS)
    models = [ModelInfo(ModelName(name), [worker], waiting=0) for name in ("m", "other")]
    lines = [line for line in cluster_text(models).decode().splitlines() if line.startswith("millstream_worker_load{")]
    assert lines == ['millstream_worker_load{model="m",worker="w1"} 2.0']


def test_a_cluster_without_models_is_no_error() -> None:
    assert not [line for line in lines_of() if not line.startswith("#")]
