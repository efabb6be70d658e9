"""ml_training: copy the model to its destination by an atomic rename."""

import os
import shutil
from pathlib import Path

Path("deployed").mkdir(exist_ok=True)
shutil.copy("model.json", "deployed/model.json.new")
os.replace("deployed/model.json.new", "deployed/model.json")
print("deployed to deployed/model.json")
