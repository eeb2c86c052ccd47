"""ModelScope's own interface over HTTP: what it lists, and where each file is. No package of theirs is needed."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import httpx
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from millstream.worker.engines.base import LoadFailed
from millstream.worker.engines.model_files.fetching.listing import Listing, SourceFile

_USUAL_REVISION = "master"


class ModelScopeAccess(BaseSettings):
    """The variables of ModelScope's own tools."""

    model_config = SettingsConfigDict(env_prefix="MODELSCOPE_", frozen=True, extra="ignore", env_ignore_empty=True)

    domain: str = Field(default="www.modelscope.cn", description="Where it is; with http:// for one without TLS.")
    api_token: SecretStr | None = Field(default=None, description="The token of somebody who may read the model.")

    @property
    def address(self) -> str:
        return self.domain.rstrip("/") if "://" in self.domain else f"https://{self.domain}"

    @property
    def headers(self) -> Mapping[str, str]:
        """Returns what every request carries. The cookie is that of older versions of the interface."""
        agent = {"User-Agent": "millstream"}
        if self.api_token is None:
            return agent
        token = self.api_token.get_secret_value()
        return {**agent, "Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"}


def list_modelscope(access: ModelScopeAccess, name: str, revision: str | None) -> Listing:
    """Returns what ModelScope lists. Raises httpx's errors, and `LoadFailed` for an answer that is none."""
    revision = revision or _USUAL_REVISION
    place = f"{access.address}/api/v1/models/{quote(name)}/repo"
    answer = httpx.get(
        f"{place}/files?{urlencode({'Revision': revision, 'Recursive': 'true'})}",
        headers=dict(access.headers),
        follow_redirects=True,
        timeout=httpx.Timeout(30, connect=10),
    )
    answer.raise_for_status()
    try:
        entries: list[Mapping[str, Any]] = answer.json()["Data"]["Files"] or []
        files = tuple(_described(place, revision, entry) for entry in entries if entry.get("Type") != "tree")
    except (ValueError, KeyError, TypeError) as error:
        raise LoadFailed(f"ModelScope lists no files of {name!r}: {answer.text[:200]}", param="model") from error
    return Listing("modelscope", name, revision, files, access.headers)


def _described(place: str, revision: str, entry: Mapping[str, Any]) -> SourceFile:
    path = str(entry["Path"])
    url = f"{place}?{urlencode({'Revision': revision, 'FilePath': path})}"
    return SourceFile(path, int(entry["Size"]), str(entry.get("Sha256") or "") or None, url=url)
