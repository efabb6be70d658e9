"""The functions of the nightly tasks. The data is invented, and the same for the same day."""

import contextlib
import datetime
import html
import os
import random
import sqlite3
import time

from liteflow import current_context


def create(folder, regions):
    """Create the database and return its path."""
    path = os.path.abspath(os.path.join(folder, "shop.db"))
    with _opened(path) as database:
        database.execute("CREATE TABLE orders (region TEXT, customer INTEGER, product INTEGER, amount REAL)")
        for table in ("customers", "products"):
            database.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, name TEXT)")
        database.execute("CREATE TABLE stock (id INTEGER PRIMARY KEY, name TEXT, pieces INTEGER)")
        database.execute("CREATE TABLE rates (currency TEXT PRIMARY KEY, rate REAL)")
    return path


def close(database):
    """Remove the database."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(database)


def sources(regions, orders, day):
    """Return the sources: one for each region, and one for orders by telephone."""
    return [{"name": region, "orders": orders, "day": str(day)} for region in [*regions, "telephone"]]


def fetch(source, folder, delay):
    """Fetch one source into a file; each needs some seconds to answer. Every second one fails at the first attempt."""
    time.sleep(delay)
    context = current_context()
    if context.map_index % 2 and context.attempt == 1:
        raise ConnectionError(f"{source['name']} does not answer")
    chance = random.Random(f"{source['name']} {source['day']}")
    path = os.path.abspath(os.path.join(folder, f"{source['name']}.csv"))
    with open(path, "w", encoding="utf-8") as file:
        for number in range(source["orders"]):
            amount = "" if number % 50 == 7 else round(chance.uniform(3, 200), 2)
            print(source["name"], chance.randrange(40), chance.randrange(12), amount, sep=",", file=file)
    print(f"{source['orders']} orders from {source['name']}")
    return {"name": source["name"], "path": path}


def quality(rows, bad):
    """Return the share of valid lines, in per cent."""
    return round(100 * (1 - sum(map(int, bad)) / sum(map(int, rows))))


def load(table, files, database):
    """Load fetched files and return the number of loaded lines."""
    loaded = 0
    with _opened(database) as connection:
        for one in files:
            with open(one["path"], encoding="utf-8") as file:
                lines = [line.strip().split(",") for line in file]
            rows = [line for line in lines if line[3]]
            connection.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?)", rows)
            loaded += len(rows)
    return loaded


def load_some(table, count, database):
    """Fill a table with names."""
    with _opened(database) as connection:
        for number in range(count):
            name = f"{table[:-1] if table.endswith('s') else table} {number}"
            if table == "stock":
                connection.execute("INSERT INTO stock VALUES (?, ?, ?)", (number, name, number * 7 % 25))
            else:
                connection.execute(f"INSERT INTO {table} VALUES (?, ?)", (number, name))
    return count


def load_rates(rates, database):
    """Store the exchange rates of the euro."""
    with _opened(database) as connection:
        connection.execute("INSERT INTO rates VALUES (?, 1)", (rates["base"],))
        for currency in ("USD", "GBP"):
            connection.execute("INSERT INTO rates VALUES (?, ?)", (currency, rates[currency]))
    return rates


def sql(database, text):
    """Run a statement."""
    with _opened(database) as connection:
        connection.execute(text)


def sales(database, region, currency):
    """Return the sales of a region, or of all, in a currency."""
    with _opened(database) as connection:
        where, values = ("", ()) if region == "all" else ("WHERE region = ?", (region,))
        (total,) = connection.execute(f"SELECT coalesce(sum(amount), 0) FROM orders {where}", values).fetchone()
        (rate,) = connection.execute("SELECT rate FROM rates WHERE currency = ?", (currency,)).fetchone()
    return {"region": region, "currency": currency, "total": round(total * rate, 2)}


def top_customers(database):
    """Return the five best customers."""
    with _opened(database) as connection:
        rows = connection.execute(
            "SELECT name, round(sum(amount), 2) FROM orders JOIN customers ON customers.id = customer "
            "GROUP BY name ORDER BY 2 DESC LIMIT 5"
        ).fetchall()
    return [list(row) for row in rows]


def low_stock(database):
    """Return the goods to order."""
    with _opened(database) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM stock WHERE pieces < 5 ORDER BY name")]


def forecast(database, day):
    """Return a forecast: tomorrow is like today."""
    with _opened(database) as connection:
        (total,) = connection.execute("SELECT sum(amount) FROM orders").fetchone()
    return {"day": day + datetime.timedelta(days=1), "total": round(total * 1.02, 2)}


def report(day, sales, customers, stock, forecast, quality):
    """Write the report as data, as text and as a page."""
    data = {
        "day": str(day),
        "sales": sales,
        "customers": customers,
        "to order": stock,
        "forecast": {"day": str(forecast["day"]), "total": forecast["total"]},
        "quality": quality,
    }
    lines = [f"Sales of {day} ({quality} % of the lines were usable)"]
    lines += [f"  {one['region']:10} {one['total']:12,.2f} {one['currency']}" for one in sales]
    lines += ["Best customers: " + ", ".join(name for name, _ in customers), "To order: " + ", ".join(stock)]
    text = "\n".join(lines)
    context = current_context()
    context.xcom_push("text", text)
    context.xcom_push("html", f"<title>{day}</title><pre>{html.escape(text)}</pre>")
    return data


@contextlib.contextmanager
def _opened(path):
    connection = sqlite3.connect(path, timeout=30)
    try:
        with connection:
            yield connection
    finally:
        connection.close()
