"""Measure what a prompt token costs a tokeniser, microseconds.

Run from the root of a checkout: pip install tokenizers && python scripts/measure_tokenizer.py

A byte-level BPE of 32,000 words is trained on the Python sources of this interpreter's library,
and texts of the documentation are encoded with it in one thread, as a server's frontend does with
one request. What a real vocabulary costs depends on the host; this is its order of magnitude.
"""

from __future__ import annotations

import statistics
import sys
import sysconfig
import time
from pathlib import Path

TRAINING_FILES = 800
LENGTHS = (500, 2000, 8000)
REPEAT = 15


def main() -> None:
    try:
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    except ImportError:
        sys.exit("measure_tokenizer.py needs tokenizers: pip install tokenizers")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    sources = sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py"))[:TRAINING_FILES]
    trainer = trainers.BpeTrainer(vocab_size=32_000, show_progress=False)
    tokenizer.train([str(path) for path in sources], trainer)
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(Path("docs").glob("*.md")))
    characters = len(text) / len(tokenizer.encode(text).ids)
    for length in LENGTHS:
        costs_us = []
        for number in range(REPEAT):
            start = 97 * number
            part = text[start : start + int(length * characters)]
            begin_s = time.perf_counter()
            encoded = tokenizer.encode(part)
            costs_us.append(1e6 * (time.perf_counter() - begin_s) / len(encoded.ids))
        print(f"{length:5d} tokens: {statistics.median(costs_us):.2f} us per token")


if __name__ == "__main__":
    main()
