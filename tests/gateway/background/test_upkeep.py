"""Upkeep that time demands: files whose time is over, drafts nobody writes, parts of batches that are over."""

import os
import time
from pathlib import Path

from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.records.batches import Batches
from millstream.gateway.background.app import office_of
from millstream.gateway.background.settings import BackgroundSettings
from millstream.gateway.background.upkeep import BackgroundUpkeep
from millstream.gateway.records.files.catalogue import blob_name
from millstream.gateway.services.connect import connect

HOUR, DAY = 3600, 86400


def lay(folder: Path, name: str, age: float) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    os.utime(path, (time.time() - age,) * 2)


async def test_what_goes_and_what_stays(redis_url: str, tmp_path: Path) -> None:
    now = int(time.time())
    goes = {
        blob_name("a", "file-1", now - 1): 0,
        blob_name("a b", "file-2", now + DAY) + ".part": DAY + HOUR,  # its writer was killed
        "parts/batch_over/00000000-1.completed": HOUR + 60,
        "parts/batch_over/00000256-1.failed": 2 * HOUR,
    }
    stays = {
        blob_name("a", "file-3", now + DAY): 40 * DAY,
        blob_name("a", "file-4", now + DAY) + ".part": HOUR,
        "parts/batch_over_just_now/00000000-2.completed": HOUR + 60,
        "parts/batch_over_just_now/00000256-2.completed": 60,  # Redis may yet forget that it is over
        "parts/batch_open/00000000-1.completed": 40 * DAY,
        "somebody/elses.txt": 400 * DAY,
    }
    for name, age in (goes | stays).items():
        lay(tmp_path, name, age)
    settings = BackgroundSettings(redis_url=redis_url, files_url=str(tmp_path))
    async with Broker(redis_url) as broker, connect(settings) as cluster:
        await Batches(broker).create("batch_open", {"tenant": "a"}, now, HOUR)
        await BackgroundUpkeep(broker, office_of(settings, cluster)).remove_expired_files()
    assert not (tmp_path / "parts" / "batch_over").exists()
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == set(stays)
