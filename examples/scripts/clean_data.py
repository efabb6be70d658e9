"""data_pipeline: drop empty lines of data.csv."""

from pathlib import Path

lines = [line.strip() for line in Path("data.csv").read_text(errors="replace").splitlines()]
kept = [line for line in lines if line]
Path("cleaned.csv").write_text("\n".join(kept) + "\n")
print(f"kept {len(kept)} of {len(lines)} lines")
