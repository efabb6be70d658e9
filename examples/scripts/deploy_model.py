"""ml_training: put the model where it is used, whole or not at all."""

import os
import shutil
from pathlib import Path

Path("deployed").mkdir(exist_ok=True)
shutil.copy("model.json", "deployed/model.json.new")
os.replace("deployed/model.json.new", "deployed/model.json")
print("deployed to deployed/model.json")
