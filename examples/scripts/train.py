"""daily_model_pipeline, third step: fit a straight line."""

import csv
import json
import statistics

with open("data/clean.csv", newline="") as file:
    rows = [(float(row["size"]), float(row["price"])) for row in csv.DictReader(file)]
slope, intercept = statistics.linear_regression([x for x, _ in rows], [y for _, y in rows])
with open("data/model.json", "w") as file:
    json.dump({"slope": slope, "intercept": intercept}, file)
print(f"price = {slope:.2f} * size + {intercept:.2f}")
