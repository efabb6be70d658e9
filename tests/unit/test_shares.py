"""How the slots of a cluster are divided among its lanes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from liteflow.remote.slots import fair_shares

_NUMBERS = st.integers(0, 50)


@given(_NUMBERS, st.lists(_NUMBERS, max_size=6))
def test_a_claim_gets_no_less_than_another_unless_it_is_smaller(total: int, claims: list[int]) -> None:
    shares = fair_shares(total, claims)
    assert sum(shares) == min(total, sum(claims))
    for share, claim in zip(shares, claims, strict=True):
        assert 0 <= share <= claim
        assert share == claim or share >= max(shares) - 1


def test_the_first_claims_get_what_cannot_be_divided() -> None:
    assert fair_shares(5, [9, 9, 9]) == [2, 2, 1]
    assert fair_shares(1, [0, 3, 3]) == [0, 1, 0]
    assert fair_shares(10, [1, 9, 9]) == [1, 5, 4]
