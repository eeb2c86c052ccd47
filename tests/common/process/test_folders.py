"""Folders of our own, for users who have no home and for disks that may only be read."""

import os
import pwd
from pathlib import Path

import pytest

from millstream.common.process.folders import FolderUnusable, default_state_dir, own_folder, state_dir


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whom no file of users knows, as containers have them."""
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "MILLSTREAM_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)

    def unknown(number: int) -> pwd.struct_passwd:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.usefixtures("homeless")
def test_a_user_without_a_home_is_told_what_to_set_when_a_folder_is_needed() -> None:
    assert state_dir() is None
    with pytest.raises(FolderUnusable, match=r"no home folder\. Set MILLSTREAM_STATE_DIR or HOME to another"):
        own_folder(default_state_dir(), "MILLSTREAM_STATE_DIR", "HOME")


def test_a_folder_is_made_and_what_is_in_its_way_is_named(tmp_path: Path) -> None:
    assert own_folder(tmp_path / "a" / "b", "X").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderUnusable, match=r"Cannot write to .*/file/b: Not a directory\. Set X to another folder"):
        own_folder(tmp_path / "file" / "b", "X")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_only_be_read_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(FolderUnusable, match="Permission denied"):
        own_folder(tmp_path, "X")
