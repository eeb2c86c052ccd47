"""Settings that the launcher of several ranks gives each, in the environment variables that torch names."""

from pydantic_settings import BaseSettings


class RankSettings(BaseSettings):
    """The place of this process among its ranks. Without torchrun it is the first of one."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    torchelastic_run_id: str | None = None  # set by torchrun alone

    @property
    def launched(self) -> bool:
        """Tells whether torchrun started this process."""
        return self.torchelastic_run_id is not None

    @property
    def follows(self) -> bool:
        """Tells whether this process only steps, as torchrun's second and later ranks do."""
        return self.launched and self.rank > 0
