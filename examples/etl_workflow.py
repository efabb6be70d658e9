"""An ETL pipeline: orders in many currencies become a report in euros.

    python3 examples/etl_workflow.py --out etl-out

    make_orders -> extract -> validate --> convert --> by_month ----> write_report
                              fetch_rates ---/    \\-> by_country --/

It creates its own data (6,000 orders, some of them invalid) and its own failure: the rate service fails at the
first attempt. The same seed gives the same report.
"""

import argparse
import asyncio
import csv
import json
import random
import sys
from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # so that a clone works without being installed

from liteflow import Dag, current_context

RATES = {"EUR": "1", "USD": "0.9214", "GBP": "1.1723", "CHF": "1.0438", "JPY": "0.006117", "SEK": "0.08731"}
COUNTRIES = {"DE": "EUR", "FR": "EUR", "US": "USD", "GB": "GBP", "CH": "CHF", "JP": "JPY", "SE": "SEK"}


def make_orders(out, count, seed):
    """Write orders.csv, with the mistakes of real files, and rates.json."""
    generator = random.Random(seed)
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "orders.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["order_id", "day", "country", "currency", "amount"])
        for number in range(count):
            country = generator.choice(list(COUNTRIES))
            day = date(2025, 1, 1) + timedelta(days=generator.randrange(365))
            amount = f"{generator.lognormvariate(4, 1) / float(RATES[COUNTRIES[country]]):.2f}"
            if generator.random() < 0.02:
                amount = generator.choice(["", "-5.00", "n/a"])
            writer.writerow([f"A{number:05d}", day.isoformat(), country, COUNTRIES[country], amount])
    (out / "rates.json").write_text(json.dumps(RATES), encoding="utf-8")
    return {"orders": out / "orders.csv", "rates": out / "rates.json"}


def extract(files):
    with open(files["orders"], newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


async def fetch_rates(files):
    """Fetch the rates in a coroutine. The first attempt fails, and a retry succeeds."""
    await asyncio.sleep(0.1)
    if current_context().attempt == 1:
        raise ConnectionError("the rate service did not answer")
    return json.loads(files["rates"].read_text(encoding="utf-8"))


def validate(rows, out):
    """Select the valid orders, and write the others to rejected.csv with the reason."""
    good, rejected = [], []
    for row in rows:
        try:
            if Decimal(row["amount"]) <= 0:
                raise ValueError("the amount is not above zero")
            date.fromisoformat(row["day"])
            good.append(row)
        except InvalidOperation:
            rejected.append({**row, "reason": "the amount is not a number"})
        except ValueError as error:
            rejected.append({**row, "reason": str(error)})
    with open(out / "rejected.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0], "reason"])
        writer.writeheader()
        writer.writerows(rejected)
    print(f"validate: {len(good):,} of {len(rows):,} orders are good")
    return good


def convert(validate, fetch_rates):
    """Receive the values of the tasks that have the names of the parameters."""
    cent = Decimal("0.01")
    return [
        {**row, "eur": (Decimal(row["amount"]) * Decimal(fetch_rates[row["currency"]])).quantize(cent)}
        for row in validate
    ]


def total_by(orders, key, length=None):
    """Sum by a column. Two tasks call this function, by month and by country, in parallel."""
    totals = defaultdict(Decimal)
    for order in orders:
        totals[order[key][:length]] += order["eur"]
    return dict(sorted(totals.items()))


def write_report(by_month, by_country, out):
    assert sum(by_month.values()) == sum(by_country.values()), "the two sums must agree to the cent"
    lines = ["# Orders in euros", ""]
    for title, totals in (("Month", by_month), ("Country", by_country)):
        lines += [f"| {title} | EUR |", "| --- | ---: |"]
        lines += [f"| {name} | {total:,.2f} |" for name, total in totals.items()]
        lines += [f"| **Total** | **{sum(totals.values()):,.2f}** |", ""]
    report = out / "report.md"
    report.write_text("\n".join(lines), encoding="utf-8")
    return report


def build(out, count=6_000, seed=1):
    with Dag("etl_orders", db_path=str(out / "liteflow.db"), description="Orders in many currencies to euros") as dag:
        files = dag.task(make_orders, out=out, count=count, seed=seed)
        rows = dag.task(extract, files=files)
        dag.task(fetch_rates, files=files, retries=3, retry_delay=0.2, retry_on=[ConnectionError], timeout=30)
        dag.task(validate, rows=rows, out=out)
        orders = dag.task(convert)
        by_month = dag.task(total_by, task_id="by_month", orders=orders, key="day", length=len("2025-01"))
        by_country = dag.task(total_by, task_id="by_country", orders=orders, key="country")
        dag.task(write_report, by_month=by_month, by_country=by_country, out=out)
    return dag


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("etl-out"), help="folder to write into (default etl-out)")
    parser.add_argument("--orders", type=int, default=6_000, help="how many orders to make")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other orders")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    run = build(args.out.resolve(), args.orders, args.seed).run(max_workers=4)
    if run.status != "SUCCESS":
        sys.exit(f"run {run.run_id}: {run.status}: {run.failures()}")
    print(f"run {run.run_id}: {run.status}; the report is {run.value('write_report')}")
    print(f"Its picture:  python3 -m liteflow visualize etl_orders --db {args.out / 'liteflow.db'}")


if __name__ == "__main__":
    main()
