"""ml_training: create points of two kinds, and reserve every fourth for the test."""

import json
import random
from pathlib import Path

random.seed(11)
points = [([random.gauss(2.0 * kind, 1.0), random.gauss(2.0 * kind, 1.0)], kind) for kind in (0, 1) for _ in range(100)]
Path("train.json").write_text(json.dumps([point for number, point in enumerate(points) if number % 4]))
Path("test.json").write_text(json.dumps(points[::4]))
print(f"prepared {len(points)} points")
