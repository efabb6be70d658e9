"""daily_model_pipeline, second step: remove the rows without a price."""

import csv

with open("data/raw.csv", newline="") as file:
    rows = list(csv.DictReader(file))
good = [row for row in rows if row["price"]]
with open("data/clean.csv", "w", newline="") as file:
    writer = csv.DictWriter(file, ["size", "price"])
    writer.writeheader()
    writer.writerows(good)
print(f"kept {len(good)} of {len(rows)} rows")
