"""daily_model_pipeline, fourth step: compute the error of the model; an error above a limit fails the task."""

import csv
import json
import statistics
import sys

with open("data/model.json") as file:
    model = json.load(file)
with open("data/clean.csv", newline="") as file:
    errors = [
        abs(model["slope"] * float(row["size"]) + model["intercept"] - float(row["price"]))
        for row in csv.DictReader(file)
    ]
print(f"mean error {statistics.fmean(errors):.2f}, worst {max(errors):.2f}")
sys.exit(statistics.fmean(errors) > 20)
