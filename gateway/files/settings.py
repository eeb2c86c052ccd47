"""Settings of the Files API, the same for gateways and background processes."""

from pydantic import Field

from common.folders import default_files_url
from common.settings import ClusterSettings


class FilesSettings(ClusterSettings):
    """All gateways and background processes of a cluster must see the same files."""

    files_url: str = Field(
        default_factory=default_files_url,
        description="Where files are kept: a folder, or a URL such as s3://bucket/folder (install millstream[s3]).",
    )
    max_file_bytes: int = Field(default=512 * 2**20, ge=1, description="Largest file that may be uploaded, in bytes.")
    file_ttl: float = Field(
        default=30 * 86400.0, ge=1, description="Seconds a file is kept when its upload does not say (expires_after)."
    )
