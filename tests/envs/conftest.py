"""How two environments are held against each other."""

from typing import Any

import numpy as np


def assert_same(one: Any, two: Any) -> None:
    """Observations are the same: exactly where they are numbers of things, to rounding where they are measured."""
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for name in one:
            assert_same(one[name], two[name])
    else:
        assert one.shape == two.shape
        assert one.dtype == two.dtype
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def assert_same_infos(native: dict[str, Any], rows: dict[str, Any]) -> None:
    """What the rows say, the native batch says in the same places; where they are silent, its masks are False."""
    for name in {key for key in native if not key.startswith("_")} | {key for key in rows if not key.startswith("_")}:
        if name not in rows:
            assert not native[f"_{name}"].any(), name
            continue
        np.testing.assert_array_equal(native[f"_{name}"], rows[f"_{name}"], err_msg=name)
        if name == "final_info":
            assert_same_infos(native[name], rows[name])
        elif name == "final_obs":
            for one, two in zip(native[name], rows[name], strict=True):
                assert (one is None) == (two is None)
                if one is not None:
                    assert_same(one, two)
        else:
            np.testing.assert_allclose(native[name], rows[name], rtol=1e-5, err_msg=name)
