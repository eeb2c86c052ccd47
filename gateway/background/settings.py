"""Settings of a background process. Read once at the composition root; each field is also a flag of the command."""

from pydantic import Field, SecretStr

from millstream.common.settings import RedisUrl
from millstream.gateway.settings import IntakeSettings


class BackgroundSettings(IntakeSettings):
    """Limits of what one background process does at once, and the receivers of its webhooks. Several processes share
    the work."""

    background_redis_url: RedisUrl = Field(
        default="",
        description="Redis of the background jobs (arq), if not that of the queue: arq cannot use a Redis Cluster.",
    )
    batches_at_once: int = Field(default=4, ge=1, description="Batches one process works on at the same time.")
    batch_lines: int = Field(default=50_000, ge=1, description="Most lines (requests) a batch may have.")
    batch_in_flight: int = Field(default=512, ge=1, description="Most lines of a batch that are on the queue at once.")
    batch_line_timeout: float = Field(
        default=3600.0, gt=0, description="Seconds one line may wait and run before it is submitted anew."
    )
    slice_seconds: float = Field(
        default=20.0, ge=1, le=30, description="Seconds of work on a batch before others have their turn."
    )
    webhooks: list[str] = Field(
        default=[], description="Who is told of ends: `tenant=https://...`; `*=https://...` is told of every tenant's."
    )
    webhook_secret: SecretStr = Field(
        default=SecretStr(""), description="Key of the webhooks' signatures: `whsec_` and base64, as Standard Webhooks."
    )
    webhook_tries: int = Field(
        default=12, ge=1, description="Tries to deliver a webhook, over about a day, before it is given up."
    )
