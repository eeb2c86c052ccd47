"""The spans that follow from a job's leases: each attempt once, whoever writes it."""

from typing import get_args

import pytest

from millstream.common.job import ChatPrompt, EmbedInput, JobInput, JobRequest, Sampling
from millstream.common.leases import LeaseSpan, lease_spans
from millstream.common.tracing.attempts import OPERATIONS, Outcome, TracedJob, about_request, traced_job
from millstream.common.tracing.context import TraceContext

PARENT = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", True)
LEASES = "1:a 0 1000 2000 lost,2:b 3 2500 3000 lost,3:c 5 3000 4000,4:d 9 5000"


def job(text: str = LEASES) -> TracedJob:
    return TracedJob("j", PARENT, 0.5, lease_spans(text), {})


def test_leases_are_read_as_the_scripts_write_them() -> None:
    assert lease_spans("1:a 0 1000 2000 lost,2:b 3 2500,3:c 4 5000 6000") == [
        LeaseSpan("1:a", 0, 1.0, 2.0, lost=True),
        LeaseSpan("2:b", 3, 2.5),
        LeaseSpan("3:c", 4, 5.0, 6.0),
    ]
    assert lease_spans("") == []


def test_whoever_ends_an_attempt_tells_the_lost_ones_before_it() -> None:
    told = job().ended(2, Outcome("handed_over", 4.0))
    shown = [(span.name, span.start, span.end, span.error) for span in told]
    assert shown == [
        ("queue wait", 0.5, 1.0, ""),
        ("attempt 1", 1.0, 2.0, "worker lost"),
        ("queue wait", 2.0, 2.5, ""),
        ("attempt 2", 2.5, 3.0, "worker lost"),
        ("queue wait", 3.0, 3.0, ""),
        ("attempt 3", 3.0, 4.0, ""),
    ]
    first, second, third = told[1::2]
    assert (first.links, second.links, third.links) == ((), (first.span_id,), (second.span_id,))
    assert {span.parent_id for span in told} == {PARENT.span_id}


def test_each_span_is_written_once_and_has_an_id_of_its_own() -> None:
    told = [*job().ended(2, Outcome("handed_over", 4.0)), *job().ended(3, Outcome("finished", 6.0))]
    assert [span.name for span in told].count("attempt 3") == 1
    assert len({span.span_id for span in told}) == len(told) == 8
    assert told[-1].links == (told[-3].span_id,)
    again = job().ended(2, Outcome("lost", 4.0))
    assert [span.span_id for span in again] == [span.span_id for span in told[:6]], "whoever writes them"


def test_jobs_of_one_request_do_not_share_spans() -> None:
    other = TracedJob("j-1", PARENT, 0.5, lease_spans(LEASES), {})
    ended = [each.ended(3, Outcome("finished", 6.0)) for each in (job(), other)]
    assert not {span.span_id for span in ended[0]} & {span.span_id for span in ended[1]}


def test_a_wait_for_a_worker_that_never_came() -> None:
    span = job("1:a 0 1000 2000 lost").wait(1, 9.0)
    assert (span.start, span.end, span.error) == (2.0, 9.0, "no worker took it any more")


def test_a_clock_that_goes_back_makes_no_span_that_ends_before_it_begins() -> None:
    spans = job("1:a 0 1000 900,2:b 0 800").ended(1, Outcome("finished", 0.1))
    assert all(span.end >= span.start for span in spans)


@pytest.mark.parametrize("traceparent", ["", "nonsense", f"00-{PARENT.trace_id}-{PARENT.span_id}-00"])
def test_what_is_not_recorded_has_no_spans(traceparent: str) -> None:
    asked = JobRequest(ChatPrompt([]), traceparent=traceparent)
    assert traced_job("j", "m", asked, 0.0, []) is None


def test_a_request_is_told_by_the_names_of_the_conventions() -> None:
    asked = JobRequest(ChatPrompt([{"role": "user", "content": "secret"}]), Sampling(seed=7, max_tokens=5))
    told = about_request("m", asked)
    assert told["gen_ai.operation.name"] == "chat" and told["gen_ai.request.max_tokens"] == 5
    assert "secret" not in str(told)
    assert about_request("m", JobRequest(EmbedInput(["x"])))["gen_ai.operation.name"] == "embeddings"


def test_every_kind_of_job_has_an_operation() -> None:
    assert set(OPERATIONS) == set(get_args(JobInput))
