"""The Python functions of parameters.yaml; they do not use Lightflow."""

from __future__ import annotations

import datetime


def make(day: datetime.date, count: int, regions: list[str]) -> list[dict[str, object]]:
    """Return orders of a day, the same each time."""
    return [
        {"id": f"{day:%Y%m%d}-{number}", "region": regions[number % len(regions)], "amount": number * 7 % 50 + 1}
        for number in range(count)
    ]


def totals(orders: list[dict[str, object]]) -> dict[str, object]:
    """Return the orders of each region."""
    regions: dict[str, int] = {}
    for order in orders:
        name = str(order["region"])
        regions[name] = regions.get(name, 0) + int(str(order["amount"]))
    return {"regions": regions, "lines": [f"{name}: {amount}" for name, amount in sorted(regions.items())]}
