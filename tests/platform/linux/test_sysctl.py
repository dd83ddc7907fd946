"""The setting that decides whether answers count."""

import errno
from pathlib import Path
from unittest.mock import patch

import pytest

from tailnet.platform.interface import PlatformError
from tailnet.platform.linux.sysctl import filters_strictly, make_marks_count, marks_count


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host with one link."""
    for device in ("all", "default", "lo", "eth0"):
        (tmp_path / device).mkdir()
        (tmp_path / device / "rp_filter").write_text("0\n")
    (tmp_path / "all/src_valid_mark").write_text("0\n")
    return tmp_path


@pytest.mark.parametrize(
    ("everywhere", "link", "strict"),
    [("0", "0", False), ("0", "1", True), ("1", "0", True), ("1", "2", False), ("2", "1", False)],
)
def test_the_larger_number_decides(root: Path, everywhere: str, link: str, *, strict: bool) -> None:
    """As the kernel has it."""
    (root / "all/rp_filter").write_text(everywhere)
    (root / "eth0/rp_filter").write_text(link)
    assert filters_strictly(root) == strict


def test_it_is_set_and_reset(root: Path) -> None:
    """By file."""
    assert not marks_count(root)
    make_marks_count(yes=True, root=root)
    assert marks_count(root)
    make_marks_count(yes=False, root=root)
    assert not marks_count(root)


def test_a_host_that_forbids_it_is_told_only_where_it_matters(root: Path) -> None:
    """What may work the next time is an error in any case."""

    def refused(code: int) -> str:
        with patch.object(Path, "write_text", side_effect=OSError(code, "no")):
            return make_marks_count(yes=True, root=root)

    assert refused(errno.EROFS) == "net.ipv4.conf.all.src_valid_mark cannot be set: no"
    with pytest.raises(PlatformError, match="cannot be set"):
        refused(errno.EINTR)
    (root / "eth0/rp_filter").write_text("1")
    with pytest.raises(PlatformError, match="or answers get lost"):
        refused(errno.EROFS)


def test_no_settings_at_all_are_no_error(tmp_path: Path) -> None:
    """A container without ``/proc/sys``."""
    assert marks_count(tmp_path)
    assert not filters_strictly(tmp_path / "none")
    make_marks_count(yes=True, root=tmp_path)
