"""A plugin of pytest: what is left out is skipped, and says why."""

from __future__ import annotations

import pytest
from left_out import MARKS, TESTS, reason_of

LEFT_OUT = "left out: "


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        name = item.nodeid.partition("[")[0]
        reason = next((reason for mark, reason in MARKS.items() if item.get_closest_marker(mark)), "")
        reason = reason or reason_of(TESTS, name)
        if reason:
            item.add_marker(pytest.mark.skip(reason=LEFT_OUT + reason), append=False)
