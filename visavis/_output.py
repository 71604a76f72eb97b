"""Where a command writes its report: looked at before the work begins, for a soak of eight hours cannot be had again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

__all__ = ["ReportFile", "check_writable"]


def check_writable(_type: object, path: Path | None) -> None:
    """Nothing if `path` can be written, or is not given.

    Raises:
        ValueError: it is a folder, its folder is missing, or it may not be written; cyclopts shows the text.

    """
    if path is None:
        return
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a file in it, as {path / 'report.json'}")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f"{path} cannot be written: no permission")


ReportFile = Annotated[Path | None, Parameter(validator=check_writable)]
"""The type of `--json`."""
