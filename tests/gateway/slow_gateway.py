"""A gateway over a scripted queue, run by a test that sends it signals. Prints its address, then serves."""

import asyncio

from millstream.gateway.app import listen, server
from millstream.gateway.settings import GatewaySettings
from tests.gateway.scripted import ScriptedCluster, said


async def main() -> None:
    cluster = ScriptedCluster()
    cluster.queue.script = lambda _: said(*["token"] * 100)
    cluster.queue.at_first = 1
    settings = GatewaySettings(port=0, drain=20)
    with listen(settings) as listener:
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        serving = asyncio.create_task(server(settings, cluster.connect).serve([listener]))
        while not serving.done():
            await asyncio.sleep(0.02)
            await cluster.queue.advance()
        await serving


if __name__ == "__main__":
    asyncio.run(main())
