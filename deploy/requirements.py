"""Print what the package and the extras named on the command line need, as pip reads it: `requirements.py gateway s3`.

An image installs that before it copies the sources, so that a changed line does not install everything anew.
"""

import sys
import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def main() -> None:
    extras = PROJECT["optional-dependencies"]
    for line in [*PROJECT["dependencies"], *(each for name in sys.argv[1:] for each in extras[name])]:
        print(line)


if __name__ == "__main__":
    main()
