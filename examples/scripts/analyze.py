"""data_pipeline: count lines and words of cleaned.csv."""

import json
from pathlib import Path

text = Path("cleaned.csv").read_text()
found = {"lines": len(text.splitlines()), "words": len(text.replace(",", " ").split())}
Path("analysis.json").write_text(json.dumps(found))
print(found)
