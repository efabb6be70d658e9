"""The sources of the example: created from a seed, so that every run has the same data.

Each one waits a little first, in place of a slow network.
"""

from __future__ import annotations

import csv
import datetime
import json
import os
import random
import time

PRODUCTS = {"lamp": 3490, "chair": 8900, "desk": 24900, "shelf": 11950, "rug": 15400, "clock": 2995}
CURRENCIES = {"north": ["EUR", "GBP"], "south": ["EUR", "CHF"], "web": ["EUR", "USD", "GBP"]}
COUNTRIES = ["AT", "CH", "DE", "ES", "FR", "GB", "IT", "NL", "US"]
FIRST_DAY = datetime.date(2026, 1, 1)


def orders(shop: str, count: int, seed: int, wait_s: float) -> dict[str, int]:
    """Write the orders of a shop, some of them wrong or duplicated, and return the number of lines."""
    time.sleep(wait_s)
    dice = random.Random(seed)
    rows: list[list[object]] = []
    for number in range(count):
        product = dice.choice(sorted(PRODUCTS))
        quantity = 0 if dice.random() < 0.008 else dice.randint(1, 5)
        currency = "" if dice.random() < 0.005 else dice.choice(CURRENCIES[shop])
        customer = f"C{dice.randint(1, 905):04d}"  # there are 900 customers: five ids are unknown
        day = FIRST_DAY + datetime.timedelta(days=dice.randrange(181))
        cents = PRODUCTS[product] - dice.randrange(0, 500, 5)
        rows.append([f"{shop}-{number:05d}", day.isoformat(), customer, product, quantity, cents, currency])
    rows += dice.sample(rows, count // 100)
    dice.shuffle(rows)
    with open(f"{os.environ['OUT']}/orders_{shop}.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["order", "day", "customer", "product", "quantity", "cents", "currency"])
        writer.writerows(rows)
    print(f"{shop}: {len(rows)} lines")
    return {"lines": len(rows)}


def customers(count: int, seed: int, wait_s: float) -> dict[str, int]:
    """Write the customers, one object per line, and return their number."""
    time.sleep(wait_s)
    dice = random.Random(seed)
    rows = [json.dumps({"id": f"C{number:04d}", "country": dice.choice(COUNTRIES)}) for number in range(1, count + 1)]
    with open(f"{os.environ['OUT']}/customers.json", "w", encoding="utf-8") as file:
        file.write("[\n" + ",\n".join(rows) + "\n]\n")
    print(f"customers: {count}")
    return {"customers": count}
