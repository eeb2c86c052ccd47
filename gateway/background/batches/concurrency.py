"""The number of lines of a batch that may be on the queue at once."""

from millstream.common.broker.models.directory import ModelInfo

LEAST = 2  # so that a busy cluster does not forget the batch: its lines then wait below everyone else's


def lines_in_flight(ours: int, model: ModelInfo | None, most: int) -> int:
    """Returns enough lines to fill the free slots of the model's live workers, and as many again to wait, so that no
    slot idles while an answer travels; fewer when others' work waits. `ours`: how many there are now."""
    if model is None:
        return LEAST
    alive = [worker for worker in model.workers if worker.alive]
    slots, load = sum(worker.slots for worker in alive), sum(worker.load for worker in alive)
    wanted = ours + 2 * slots - load - model.waiting
    return max(LEAST, min(wanted, 2 * slots, most))
