"""data_pipeline: write report.md."""

import json
from pathlib import Path

found = json.loads(Path("analysis.json").read_text())
Path("report.md").write_text("# Report\n\n" + "".join(f"- {name}: {value}\n" for name, value in found.items()))
print(Path("report.md").read_text())
