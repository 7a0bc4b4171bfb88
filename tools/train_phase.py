# SPDX-License-Identifier: GPL-3.0-or-later
"""Train the periodic autoencoders of body parts on walks, and say how much of held-out walks they explain.

    python tools/train_phase.py [--data FOLDER] [--out FILE.safetensors] [--parts 5|2] [--latents 12] [--steps 2000]

Needs torch and safetensors.  FOLDER holds motion clips and their reader, `clips.py`.  Walks of CMU on the body that most
takes share are used: the split `train` to learn from, whole takes and whole performers held out.
"""

from __future__ import annotations

import argparse
import importlib.util
import pathlib
import sys
import time
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
SKELETON = "cmu_daz"


def module(name: str, path: pathlib.Path, package: bool = False) -> Any:
    """A module of a file, under a name of our choice."""
    spec = importlib.util.spec_from_file_location(
        name, path, submodule_search_locations=[str(path.parent)] if package else None
    )
    assert spec and spec.loader
    sys.modules[name] = loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data" / "mocap")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "out" / "phase.safetensors")
    parser.add_argument("--parts", type=int, default=5, choices=(5, 2))
    parser.add_argument("--latents", type=int, default=12, help="sinusoids a part")
    parser.add_argument("--steps", type=int, default=2000, help="batches a part")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if not (options.data / "clips.py").is_file():
        raise SystemExit(f"{options.data} holds no motion clips; name their folder with --data.")

    import torch
    from safetensors.torch import save_file

    module("vivant", ROOT / "__init__.py", package=True)
    from vivant.backends.motion.clip import Clip
    from vivant.backends.motion.phase import autoencoder, parts

    torch.set_num_threads(options.threads)
    container = module("mocap_container", options.data / "clips.py")
    splits: dict[str, list[Clip]] = {}
    for found in container.load(options.data, lambda clip: clip.skeleton == SKELETON and clip.style == "walk"):
        clip = Clip(found.names, found.parents, found.offsets, found.fps, found.rotations, found.root)
        splits.setdefault(found.split, []).append(clip)
    first = splits["train"][0]
    division = parts.find(first.names, first.parents, count=options.parts)

    start = time.monotonic()

    def progress(done: float, total: float, note: str) -> None:
        if done % 500 == 0:
            print(f"{done:.0f}/{total:.0f}  {note}  {time.monotonic() - start:.0f} s", flush=True)

    models = autoencoder.train(splits["train"], division, options.latents, options.steps, progress=progress)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    tensors, text = autoencoder.state(models)
    save_file(tensors, options.out, text)
    print(f"\n{options.out}, {options.out.stat().st_size / 2**20:.1f} MB\nR² of the parts' velocities")
    for split, clips in splits.items():
        if split == "train":
            continue
        long = [clip for clip in clips if len(clip) > 2 * clip.fps]
        shares = "  ".join(f"{part} {autoencoder.explained(model, long):.3f}" for part, model in models.items())
        print(f"{split:20}{len(long):3} clips  {shares}", flush=True)


if __name__ == "__main__":
    main()
