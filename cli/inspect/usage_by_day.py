"""`millstream usage`, the second table: what each tenant used of each model, day by day."""

from datetime import timedelta

from millstream.cli.inspect.tables import print_table
from millstream.common.broker.accounts.usage import read_usage, today
from millstream.common.broker.connection.opening import open_broker
from millstream.common.settings import ClusterSettings

SHOWN = 30  # days


async def show_days(settings: ClusterSettings) -> None:
    """Prints the last days (UTC) of all tenants."""
    async with open_broker(settings) as broker:
        last = today()
        used = await read_usage(broker, last - timedelta(days=SHOWN - 1), last)
    rows = [
        (
            each.day.isoformat(),
            each.tenant,
            each.model,
            str(each.jobs),
            str(each.prompt_tokens),
            str(each.completion_tokens),
            str(each.cached_tokens),
        )
        for each in used
    ]
    header = ("day", "tenant", "model", "jobs", "prompt tokens", "completion tokens", "cached tokens")
    print_table(header, rows, "Nothing was used in the last 30 days.")
