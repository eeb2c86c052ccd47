"""docs/operating/security.md tells the limits as they are in the settings."""

import re
from pathlib import Path

from millstream.gateway.background.settings import BackgroundSettings
from millstream.gateway.settings import GatewaySettings

PAGE = Path(__file__).parents[2] / "docs" / "operating" / "security.md"
FIELDS = GatewaySettings.model_fields | BackgroundSettings.model_fields


def told() -> dict[str, float]:
    return {
        name: float(value) for name, value in re.findall(r"^\| `(\w+)` \| (\d+) \|", PAGE.read_text(), re.MULTILINE)
    }


def test_every_limit_has_the_default_the_page_tells() -> None:
    assert told() == {name: float(FIELDS[name].default) for name in told()}


def test_no_limit_is_left_out() -> None:
    assert {name for name in FIELDS if name.startswith("max_")} <= set(told())


def test_every_setting_the_page_names_exists() -> None:
    named = re.findall(r"MILLSTREAM_(\w+)", PAGE.read_text())
    assert named and not [name for name in named if name.lower() not in FIELDS]
