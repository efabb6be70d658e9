"""ml_training: compute the share of test points that are nearest to the centre of their kind."""

import json
import math
import sys
from pathlib import Path

centres = json.loads(Path("model.json").read_text())
points = json.loads(Path("test.json").read_text())
right = sum(min((0, 1), key=lambda kind: math.dist(point, centres[kind])) == kind for point, kind in points)
print(f"{right} of {len(points)} right")
sys.exit(right < 0.8 * len(points))
