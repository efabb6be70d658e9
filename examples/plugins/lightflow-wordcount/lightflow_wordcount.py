"""The task type `word_count`: count the words of a text file."""

import collections
import re
from typing import ClassVar

from lightflow.plugins.base import TaskType


class WordCount(TaskType):
    name = "word_count"
    schema: ClassVar = {
        "description": "Counts the words of a text file; returns the most frequent ones.",
        "properties": {
            "source": {"type": "string", "description": "The file to read."},
            "top": {"type": "integer", "minimum": 1, "default": 10, "description": "How many words to return."},
        },
        "required": ["source"],
    }

    def run(self, config, context):
        with open(config["source"], encoding="utf-8") as source:
            words = collections.Counter(re.findall(r"\w+", source.read().lower()))
        return dict(words.most_common(config.get("top", 10)))
