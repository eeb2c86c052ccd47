"""A process like a worker, with one on its tether like vLLM's engine, and one on that one's like vLLM's worker."""

import multiprocessing
import os
import time

from millstream.worker.engines.vllm.tether import Tether

spawning = multiprocessing.get_context("spawn")


def engine(tied: object) -> None:
    print("pid", os.getpid(), flush=True)
    spawning.Process(target=worker, args=(tied,)).start()
    time.sleep(600)


def worker(tied: object) -> None:
    print("pid", os.getpid(), flush=True)
    time.sleep(600)


def main() -> None:
    tether = Tether(lambda stage, fraction: None)
    spawning.Process(target=engine, args=(tether,)).start()
    tether.started()
    while len(said := [line for line in tether.log._lines if line.startswith("pid")]) < 2:
        time.sleep(0.01)
    print(*said, sep="\n", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    main()
