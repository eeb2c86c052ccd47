"""The one who asks about the cluster: what is shown to a tenant, and what to administrators alone."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from millstream.common.broker.accounts.keyring import ApiKey
from millstream.common.errors import Forbidden, Unavailable
from millstream.common.job import ModelName
from millstream.gateway.services.operations import Operations
from millstream.gateway.services.services import InServices, Services, key_of, tenant_of


@dataclass(frozen=True, slots=True)
class Viewer:
    """A tenant, who sees its own, or an administrator, who sees all."""

    tenant: str
    admin: bool
    key: ApiKey

    @property
    def scope(self) -> str:
        """Returns the tenant whose jobs are shown, empty for all."""
        return "" if self.admin else self.tenant

    def sees(self, tenant: str) -> bool:
        """Tells whether what belongs to a tenant is shown."""
        return self.admin or tenant == self.tenant

    def may_use(self, model: ModelName) -> bool:
        return self.key.may_use(model)

    def wanted(self, asked: str | None) -> str:
        """Returns the tenant whose jobs a filter asks for, empty for all. Raises `Forbidden`."""
        if asked in (None, "*") and self.admin:
            return ""
        if asked is None or self.sees(asked):
            return asked or self.tenant
        raise Forbidden("Only the tenants in the setting `admins` may see the jobs of others.", param="tenant")

    def check_admin(self, what: str) -> None:
        """Raises `Forbidden` for everybody but administrators."""
        if not self.admin:
            raise Forbidden(f"Only the tenants in the setting `admins` may {what}.")


def viewer_of(request: Request, services: Services) -> Viewer:
    """Returns who asks."""
    tenant = tenant_of(request)
    return Viewer(tenant, tenant in services.settings.admins, key_of(request))


async def _viewer(request: Request, services: InServices) -> Viewer:
    return viewer_of(request, services)


def operations_of(services: Services) -> Operations:
    """Returns the operator's view of the cluster. Raises `Unavailable` where there is none."""
    if services.cluster.operations is None:
        raise Unavailable("This gateway has no view of the cluster.")
    return services.cluster.operations


async def _operations(services: InServices) -> Operations:
    return operations_of(services)


InViewer = Annotated[Viewer, Depends(_viewer)]
InOperations = Annotated[Operations, Depends(_operations)]
