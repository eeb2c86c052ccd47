"""The findings of a run of `millstream chaos`, counted and written down."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from millstream.bench.chaos.background import UnattendedTally
from millstream.bench.chaos.stream import Heard, Verdict
from millstream.bench.chaos.strikes import Struck

WORST_SHOWN = 5
RIGHT_BOOKS = "The books are right: nothing waits, no worker has a load, no key stays that should go."


@dataclass
class FaultTally:
    """The counts of a run. `gaps` are seconds without a token around each fault, for the streams it hit."""

    open: int = 0
    streams: int = 0
    by_sdk: int = 0  # streams read by OpenAI's SDK
    left: int = 0  # clients that went away on purpose
    tokens: int = 0
    lost: int = 0
    duplicated: int = 0
    foreign: int = 0
    failed: int = 0  # streams that ended in an error
    failed_over: int = 0  # of streams that ended in an error because a replica lacked what its primary had acknowledged
    hung: int = 0  # streams that never came to their end
    odd: int = 0  # whole, but with wrong ids, finish, usage or [DONE]
    resumed: int = 0  # connections after the first
    seconds: float = 0.0
    quiet: bool = False
    unattended: UnattendedTally = field(default_factory=UnattendedTally)
    books: list[str] = field(default_factory=list[str])  # what is wrong in them
    struck: list[Struck] = field(default_factory=list[Struck])
    pairs: int = 0  # moments at which two faults struck
    gaps: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    notes: list[str] = field(default_factory=list[str])

    @property
    def good(self) -> bool:
        """Tells whether nothing was lost, nothing came twice, nothing was foreign, everything ended, and nothing is
        left over."""
        wrong = self.lost + self.duplicated + self.foreign + self.failed + self.hung + self.odd
        return wrong == 0 and self.quiet and self.streams > 0 and not (self.unattended.wrong or self.books)

    def add(self, heard: Heard, verdict: Verdict, *, excused: bool) -> None:
        """Counts an answer read to its end, or to an error: what came of it must be right in any case."""
        self.streams += 1
        self.resumed += heard.connections - 1
        if heard.errors and excused and verdict.good:
            self.failed_over += 1
        elif heard.errors:
            self.failed += 1
            self.notes.append(f"failed {heard.request}: {heard.errors[0]}")
        self._judge(heard, verdict)

    def add_left(self, heard: Heard, verdict: Verdict) -> None:
        """Counts an answer that was left: what came of it must be right."""
        self.left += 1
        self._judge(heard, verdict)

    def _judge(self, heard: Heard, verdict: Verdict) -> None:
        self.tokens += len(heard.text.split())
        self.lost += verdict.lost
        self.duplicated += verdict.duplicated
        self.foreign += verdict.foreign
        self.odd += bool(verdict.faults) and not (verdict.lost or verdict.duplicated or verdict.foreign)
        if not verdict.good:
            self.notes.append(f"wrong {heard.request} after {heard.connections} connections: {verdict}")

    def add_gaps(self, heard: Heard, struck: Sequence[Struck]) -> None:
        """Counts how long each fault that hit this stream silenced it."""
        if not heard.arrivals:
            return
        for one in struck:
            if heard.arrivals[0] <= one.moment <= heard.arrivals[-1] and (
                one.jobs is None or heard.request in one.jobs
            ):
                gap = heard.gap_after(one.moment)
                if gap is not None:
                    self.gaps.setdefault(one.fault, []).append(gap)


def percentile(values: Sequence[float], part: float) -> float:
    """Returns the value below which `part` (0 to 1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def report(tally: FaultTally) -> str:
    """Returns two tables in Markdown, and what went wrong."""
    lines = [
        "",
        "| streams | left by their client | tokens | faults | resumed | lost | duplicated | foreign | failed | hung |",
        "|---|---|---|---|---|---|---|---|---|---|",
        f"| {tally.streams} | {tally.left} | {tally.tokens} | {len(tally.struck)} | {tally.resumed} | {tally.lost} "
        f"| {tally.duplicated} | {tally.foreign} | {tally.failed} | {tally.hung} |",
        "",
        "| fault | times | streams hit | gap p50 s | p95 s | p99 s | max s |",
        "|---|---|---|---|---|---|---|",
    ]
    for fault, times in sorted(Counter(one.fault for one in tally.struck).items()):
        gaps = tally.gaps.get(fault, [])
        figures = [f"{percentile(gaps, part):.2f}" for part in (0.5, 0.95, 0.99, 1.0)] if gaps else ["-"] * 4
        lines.append(f"| {fault} | {times} | {len(gaps)} | {' | '.join(figures)} |")
    lines += ["", f"{tally.seconds:.0f} s; afterwards {'nothing' if tally.quiet else 'something'} was still held."]
    lines.append(f"{tally.pairs} times two faults struck at once.")
    if tally.failed_over:
        lines.append(f"{tally.failed_over} streams ended in an explicit error after a fail-over, counted apart.")
    lines.append(f"The books have {len(tally.books)} wrong entries." if tally.books else RIGHT_BOOKS)
    lines.append(f"{tally.by_sdk} streams were read by OpenAI's SDK.")
    lines += tally.unattended.report()
    lines += [f"! {note}" for note in [*tally.notes[:WORST_SHOWN], *tally.books[:WORST_SHOWN]]]
    if tally.odd:
        lines.append(f"! {tally.odd} streams were whole but had wrong ids, finish, usage or [DONE].")
    return "\n".join([*lines, "passed" if tally.good else "FAILED", ""])
