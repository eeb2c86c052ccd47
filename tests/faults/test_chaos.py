"""A short run of `millstream chaos`, as anyone would start it."""

import asyncio
import re
import sys

from millstream.common.process.command import own_command


async def test_a_short_chaos_loses_nothing() -> None:
    settings = {"seconds": 20, "clients": 8, "faults_per_minute": 30, "longest": 150, "workers": 2, "seed": 11}
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    process = await asyncio.create_subprocess_exec(
        *own_command("chaos", *arguments), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    sys.stdout.write(said.decode())
    assert process.returncode == 0
    assert "| 0 | 0 | 0 | 0 | 0 |" in said.decode(), "lost, duplicated, foreign, failed, hung"
    unattended = re.search(r"(\d+) batches of (\d+) lines; (\d+) background responses", said.decode())
    assert unattended is not None and all(map(int, unattended.groups()))
    by_sdk = re.search(r"(\d+) streams were read by OpenAI's SDK", said.decode())
    assert by_sdk is not None and int(by_sdk[1]) > 0
