"""Flags of FastChat's commands, for those who come from there, and what says the same here."""

from collections.abc import Mapping, Sequence

FASTCHAT: Mapping[str, str] = {
    "--model-path": "give the folder or hub id with --model",
    "--model-names": "give the names with --served-model-name",
    "--num-gpus": "use --tensor-parallel N, or --engine vllm --engine-args tensor-parallel-size=N",
    "--gpus": "set CUDA_VISIBLE_DEVICES",
    "--load-8bit": "use --quantization int8, on CPUs and GPUs alike",
    "--cpu-offload": "use --device-map auto, with --max-gpu-memory for the share of each card",
    "--cpu-offloading": "use --device-map auto, with --max-gpu-memory for the share of each card",
    "--conv-template": "choose a name or a file with --chat-template",
    "--limit-worker-concurrency": "use --slots",
    "--stream-interval": "leave it out: every token is sent when it is made",
    "--controller-address": "leave it out: workers and gateways meet in Redis (--redis-url)",
    "--controller-url": "leave it out: workers and gateways meet in Redis (--redis-url)",
    "--worker-address": "leave it out: a worker listens on no port, it asks Redis for work",
    "--max-new-tokens": "use --max-tokens",
    "--debug": "use --stats",
    "--share": "leave it out: put a proxy of your own before the gateway",
    "--model-list-mode": "leave it out: the page lists the models anew by itself",
}


def moved(arguments: Sequence[str], known: Sequence[str]) -> str | None:
    """Returns what to say of the first argument that is a flag of FastChat and none here; None if there is none."""
    for argument in arguments:
        flag = argument.partition("=")[0]
        if flag in FASTCHAT and flag not in known:
            return f"{flag} is a flag of FastChat. Here {FASTCHAT[flag]}."
    return None
