"""Values that the chart is rendered with: what works, and what is refused with which words."""

from typing import Any

Values = dict[str, Any]
MODEL: Values = {"name": "chat", "model": "Qwen/Qwen3-8B", "servedNames": ["chat"]}
OUTSIDE: Values = {"internal": {"enabled": False}}

GOOD: dict[str, Values] = {
    "default": {},
    "password": {"redis": {"internal": {"passwordSecret": "redis-password"}}},
    "tls": {
        "redis": {**OUTSIDE, "existingSecret": "redis-url", "caSecret": "redis-ca", "ports": [6380]},
        "auth": {"requireKeys": False, "existingSecret": "keys", "admins": ["ops"]},
        "files": {"url": "s3://bucket/millstream", "envSecret": "s3"},
    },
    "sentinel": {
        "redis": {**OUTSIDE, "url": "redis+sentinel://s-0:26379,s-1:26379/main/0", "ports": [26379, 6379]},
        "files": {"existingClaim": "files"},
        "background": {"replicas": 2, "webhookSecret": "hook", "settings": {"webhooks": ["*=https://example.org/h"]}},
    },
    "cluster": {
        "redis": {**OUTSIDE, "url": "redis+cluster://r-0:6379,r-1:6379"},
        "background": {"redisSecret": "background-redis"},
    },
    "servers": {
        "redis": {
            "ports": [6379, 6380],
            "models": [
                {"pattern": "llama*", "url": "redis://b:6379/0"},
                {"pattern": "qwen*", "existingSecret": "redis-of-qwen"},
                {"pattern": "other", "url": "redis+sentinel://s-0:6380,s-1:6380/main/0"},
            ],
        },
    },
    "gpus": {
        "image": {"registry": "registry.example.org/team/", "tag": "1", "pullSecrets": ["registry"]},
        "models": [
            {
                **MODEL,
                "gpus": 2,
                "tensorParallel": True,
                "drain": 120,
                "cache": {"size": "50Gi", "storageClass": "fast"},
                "settings": {"max_model_len": 8192, "prefix_sharing": False, "stall": 0.5, "on_demand": ["a=b/c"]},
                "args": ["--device=cuda"],
                "env": [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}],
                "autoscaling": {"enabled": True, "maxReplicas": 6, "backlogSeconds": 30, "cooldown": 60},
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
                "nodeSelector": {"gpu": "h100"},
                "runtimeClassName": "nvidia",
            },
            {
                "name": "load",
                "model": "load",
                "engine": "simulated",
                "replicas": 3,
                "cache": {"existingClaim": "models"},
            },
        ],
        "metrics": {
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "matchers": 'namespace="llm"',
        },
    },
    "open": {
        "gateway": {"replicas": 1, "autoscaling": {"enabled": True}, "service": {"type": "LoadBalancer"}, "drain": 90},
        "ingress": {"enabled": True, "host": "llm.example.org", "tlsSecret": "tls"},
        "httpRoute": {
            "enabled": True,
            "parentRefs": [{"name": "edge", "namespace": "infra"}],
            "hostnames": ["llm.org"],
        },
        "networkPolicy": {
            "clients": [{"namespaceSelector": {"matchLabels": {"name": "web"}}}],
            "internet": False,
            "traces": [4318],
        },
    },
    "bare": {
        "auth": {"requireKeys": False, "insecureNoAuth": True},
        "gateway": {"replicas": 1},
        "background": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
        "topologySpread": {"enabled": False},
        "serviceAccount": {"create": False, "name": "mine"},
        "models": [],
    },
    "settings": {
        "settings": {"lease": 2.5, "max_attempts": 5, "log_level": "debug"},
        "gateway": {"settings": {"lease": 3}},
    },
}

REFUSED: dict[str, tuple[Values, str]] = {
    "a name misspelt": ({"gatway": {}}, "gatway"),
    "a setting of no known form": ({"settings": {"Lease": 1}}, "Lease"),
    "no Redis": ({"redis": OUTSIDE}, "Exactly one of"),
    "two of them": ({"redis": {"url": "redis://elsewhere"}}, "redis.internal.enabled, redis.url"),
    "an open password": ({"redis": {**OUTSIDE, "url": "redis://u:secret@h:6379"}}, "redis.existingSecret"),
    "a cluster for background": ({"redis": {**OUTSIDE, "url": "redis+cluster://h:6379"}}, "background.redisSecret"),
    "models without a server": ({"redis": {"models": [{"pattern": "a*"}]}}, "Either url or existingSecret"),
    "models with two": (
        {"redis": {"models": [{"pattern": "a*", "url": "redis://b", "existingSecret": "c"}]}},
        "Either url or existingSecret",
    ),
    "models' open password": (
        {"redis": {"models": [{"pattern": "a*", "url": "redis://u:secret@h:6379"}]}},
        "put it into a Secret",
    ),
    "models of no pattern": ({"redis": {"models": [{"pattern": "a=b", "url": "redis://h"}]}}, "pattern"),
    "nobody needs a key": ({"auth": {"requireKeys": False}}, "auth.insecureNoAuth"),
    "two models of one name": ({"models": [MODEL, MODEL]}, "named chat"),
    "a model in the gateway's place": ({"models": [{**MODEL, "name": "gateway"}]}, "name"),
    "scaled by a name unknown": (
        {"models": [{"name": "m", "model": "m", "autoscaling": {"enabled": True}}]},
        "servedNames",
    ),
    "parallel on one GPU": ({"models": [{**MODEL, "gpus": 1, "tensorParallel": True}]}, "gpus of 2"),
    "a route that hangs on nothing": ({"httpRoute": {"enabled": True}}, "parentRefs"),
}
