"""`GET /v1/usage`: the jobs and tokens of the key's tenant, by day and model."""

from datetime import date, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from millstream.common.broker.accounts.usage import MOST_DAYS, Used, today
from millstream.common.errors import BadRequest, Forbidden, Unavailable
from millstream.gateway.apis.admin.examples import USED
from millstream.gateway.apis.shared.examples import answers
from millstream.gateway.services.services import InServices, Services, tenant_of

router = APIRouter(tags=["usage"])
USUAL_DAYS = 30


@router.get("/v1/usage", summary="What was used", responses=answers({"object": "list", "data": [USED]}))
async def read_usage(
    request: Request,
    services: InServices,
    start_date: Annotated[
        str | None, Query(description="First day (UTC), as 2026-01-31; 30 days until the last.")
    ] = None,
    end_date: Annotated[str | None, Query(description="Last day (UTC), included; today if left out.")] = None,
    model: str | None = None,
    tenant: Annotated[str | None, Query(description="For admins: another tenant, or `*` for all.")] = None,
) -> dict[str, Any]:
    """Returns jobs (sequences) and tokens of the tenant this key belongs to, counted when each job ends; an admin's key
    sees every tenant's."""
    if services.cluster.usage is None:
        raise Unavailable("This gateway counts no usage.")
    last = _day(end_date, "end_date") or today()
    first = _day(start_date, "start_date") or last - min(timedelta(days=USUAL_DAYS - 1), last - date.min)
    if not timedelta() <= last - first < timedelta(days=MOST_DAYS):
        raise BadRequest(f"Expected 1 to {MOST_DAYS} days from 'start_date' to 'end_date'.", param="start_date")
    used = await services.cluster.usage.read(first, last, _whose(request, services, tenant))
    told = [usage_object(each) for each in used if model in (None, each.model)]
    return {"object": "list", "data": told}


def _whose(request: Request, services: Services, asked: str | None) -> str:
    """Returns the tenant to report on, empty for all. Raises `Forbidden`."""
    own = tenant_of(request)
    if asked in (None, own):
        return own
    if own not in services.settings.admins:
        raise Forbidden("Only the tenants in the setting `admins` may see what others used.", param="tenant")
    return "" if asked == "*" else str(asked)


def usage_object(used: Used) -> dict[str, Any]:
    """Returns the use of one day, one model and one tenant."""
    return {
        "object": "usage",
        "date": used.day.isoformat(),
        "model": used.model,
        "tenant": used.tenant,
        "jobs": used.jobs,
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "cached_tokens": used.cached_tokens,
        "total_tokens": used.prompt_tokens + used.completion_tokens,
    }


def _day(text: str | None, param: str) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise BadRequest(
            f"Invalid '{param}': {text[:40]!r}. Expected a day such as 2026-01-31.", param=param
        ) from error
