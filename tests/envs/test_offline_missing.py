"""Without Minari the bridge says what to install, and the rest of the package never asks for it."""

import sys

import pytest

from slatewise.envs import ShopEnv
from slatewise.envs.offline import export_rollouts


def test_without_minari_the_bridge_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "slatewise\[minari\]"'):
        export_rollouts(ShopEnv(k=2), None, "shop/none-v0")
