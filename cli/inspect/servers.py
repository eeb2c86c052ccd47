"""The lines of `doctor` about the Redis servers: home, and those of single models."""

from collections.abc import Iterator, Sequence

from millstream.cli.inspect.diagnosis import remedy_for
from millstream.cli.inspect.finding import DoctorFinding
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.connection.url import without_secrets
from millstream.common.broker.models.astray import REMEDY, astray, told_astray
from millstream.common.broker.models.directory import ModelInfo
from millstream.common.broker.models.inspection import ServerFacts, server_facts
from millstream.common.errors import Unavailable


def queue(url: str, facts: ServerFacts) -> Iterator[DoctorFinding]:
    """Tells whether the Redis server keeps what it is given."""
    yield DoctorFinding("good", f"queue: {without_secrets(url)} answers (version {facts.version}, {facts.memory} used)")
    if not facts.append_only:
        yield DoctorFinding("bad", "queue: no append-only file: a restart loses every job", "Set appendonly yes.")
    if facts.eviction != "noeviction":
        remedy = "Set maxmemory-policy noeviction."
        yield DoctorFinding("bad", f"queue: maxmemory-policy {facts.eviction} may throw jobs away", remedy)
    if facts.append_only and facts.fsync == "everysec":
        remedy = "For none: appendfsync always (slower). What clients have received is put back by their gateways."
        yield DoctorFinding("note", "queue: a crash or a power cut may lose the last one to two seconds", remedy)
    if facts.role != "master":
        yield DoctorFinding("bad", f"queue: this server is a {facts.role}", "Use its master, or redis+sentinel://.")


async def model_servers(broker: Broker) -> list[DoctorFinding]:
    """Tells the same of each server of single models; one that is away costs its own models only."""
    findings: list[DoctorFinding] = []
    for server in broker.servers[1:]:
        try:
            findings += queue(server.url, await server_facts(server))
        except Unavailable as error:
            what = f"queue: {without_secrets(server.url)}: {error.message}"
            findings.append(DoctorFinding("bad", what, remedy_for(error)))
    return findings


async def strays(broker: Broker, models: Sequence[ModelInfo]) -> list[DoctorFinding]:
    """Tells of models that are served where no gateway looks, and of maps that differ from this command's. Raises
    `RedisAway`."""
    found: dict[str, DoctorFinding] = {}
    for info in models:
        told = await told_astray(broker, info.name)
        here = "" if info.away else await astray(broker, info.name)
        for sentence in filter(None, (told, here)):
            found[sentence] = DoctorFinding("bad", f"queue: {sentence.removesuffix(REMEDY).strip()}", REMEDY)
    return list(found.values())
