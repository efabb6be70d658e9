"""ml_training: compute the model, the centre of each kind."""

import json
import statistics
from pathlib import Path

points = json.loads(Path("train.json").read_text())
centres = [
    [statistics.fmean(point[axis] for point, kind in points if kind == wanted) for axis in (0, 1)] for wanted in (0, 1)
]
Path("model.json").write_text(json.dumps(centres))
print("centres:", [[round(value, 2) for value in centre] for centre in centres])
