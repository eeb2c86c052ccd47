"""API keys as administrators write and read them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from millstream.common.job import Tier
from millstream.gateway.apis.shared.shapes.base import INT64, Most, Shape

Bound = Annotated[int, Field(ge=0, le=INT64, description="0: no limit.")]
TenantName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\s\x00-\x1f]+$")]
EXAMPLE: dict[str, Any] = {"tenant": "acme", "weight": 2.0, "models": [], "limits": {"tokens_per_day": 1000000}}


class LimitTerms(Shape):
    """Limits of a key; what is left out stays as it is (at first: no limit)."""

    requests_per_minute: Bound | None = None
    tokens_per_minute: Bound | None = None
    concurrent: Bound | None = None
    tokens_per_day: Bound | None = None
    tokens_per_month: Bound | None = None


class KeyTermsBody(Shape):
    """The terms of a key; what is left out stays as it is."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    tenant: TenantName | None = Field(default=None, description="Whose key it is; a tenant of its own if left out.")
    weight: Annotated[float, Field(gt=0, le=1000)] | None = Field(
        default=None, description="Its share beside other tenants that wait."
    )
    ceiling: Tier | None = Field(default=None, description="The highest tier it is served in.")
    models: Annotated[list[str], Most(1000)] | None = Field(default=None, description="Empty: all.")
    limits: LimitTerms | None = None


class ApiKeyLimits(BaseModel):
    """The limits of a key; 0: none."""

    requests_per_minute: int
    tokens_per_minute: int
    concurrent: int
    tokens_per_day: int
    tokens_per_month: int


class ApiKeyInfo(BaseModel):
    """A key's terms. The key itself is shown once, when it is made: only its hash is kept."""

    id: str
    object: Literal["api_key"] = "api_key"
    tenant: str
    ending: str = Field(description="Its last four characters.")
    weight: float
    ceiling: str
    models: list[str]
    limits: ApiKeyLimits
    created: int
    key: str | None = Field(default=None, description="Only in the answer that makes it.")


class ApiKeyList(BaseModel):
    """One page of keys, the oldest first."""

    object: Literal["list"] = "list"
    data: list[ApiKeyInfo]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ApiKeyDeleted(BaseModel):
    """A key that is refused from now on."""

    id: str
    object: Literal["api_key.deleted"] = "api_key.deleted"
    deleted: bool = True
