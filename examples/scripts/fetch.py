"""daily_model_pipeline, first step: create the measurements of the day (a real workflow would download them)."""

import csv
import random
from pathlib import Path

random.seed(7)
Path("data").mkdir(exist_ok=True)
with open("data/raw.csv", "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["size", "price"])
    for size in range(30, 130):
        noise = random.gauss(0, 12)
        writer.writerow([size, "" if size % 17 == 0 else round(3.2 * size + 20 + noise, 2)])
print("fetched 100 rows into data/raw.csv")
