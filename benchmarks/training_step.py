"""What routing costs per training step of the digits scale, with DTR and without in turn."""

import argparse
import json
from pathlib import Path

import torch
import yaml

from dtr.analysis.throughput import interleaved_seconds, noise_trainer, summarise
from dtr.config.resolve import run_settings
from dtr.config.scale import load_scale
from dtr.planning.runs import find_run

DIGITS = Path(__file__).parents[1] / "workflow" / "config" / "digits.yaml"

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--steps", type=int, default=20, help="in a block")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    scale = load_scale(yaml.safe_load(DIGITS.read_text()), source=str(DIGITS))
    trainer = noise_trainer(run_settings(scale, find_run(scale, "in256-l2-dtr-a4"), seed=0))
    seconds = interleaved_seconds(trainer, pairs=arguments.pairs, steps=arguments.steps)
    result = summarise(seconds)
    if arguments.json:
        print(json.dumps(result))
    else:
        print("step with DTR / without: {ratio:.3f} [{low:.3f}, {high:.3f}]".format(**result))
