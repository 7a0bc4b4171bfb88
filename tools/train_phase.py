# SPDX-License-Identifier: GPL-3.0-or-later
"""Train the phase model that comes along, on walks and runs, and say how much of held-out ones its phases explain.

    python tools/train_phase.py [--data FOLDER | --style100 FOLDER] [--out FILE.safetensors] [--parts 5|2] [--latents 4]
                                [--minutes 40]

Needs torch.  The folder of --data holds motion clips and their reader, `clips.py`; walks and runs of CMU on the body that most
takes share are used: the split `train` to learn from; whole takes, performers and styles held out.  That of --style100 is the
100STYLE data set: the last ten styles, and the last tenths of long clips, are held out, and the paper's table (gaps of 120,
140 and 160 frames) is printed for them.  A stopped run goes on when started again.
"""

from __future__ import annotations

import argparse
import importlib.util
import pathlib
import sys
import time
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
SKELETON, STYLES = "cmu_daz", ("walk", "run", "locomotion", "walk_styled")
GAPS, PAPER = (15, 30, 45, 60, 90), (120, 140, 160)


def module(name: str, path: pathlib.Path, package: bool = False) -> Any:
    """A module of a file, under a name of our choice."""
    spec = importlib.util.spec_from_file_location(
        name, path, submodule_search_locations=[str(path.parent)] if package else None
    )
    assert spec and spec.loader
    sys.modules[name] = loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def walks(folder: pathlib.Path) -> dict[str, list[Any]]:
    """Walks and runs of the data folder by split."""
    from vivant.backends.motion.clip import Clip

    container = module("mocap_container", folder / "clips.py")
    splits: dict[str, list[Clip]] = {}
    for found in container.load(folder, lambda clip: clip.skeleton == SKELETON and clip.style in STYLES):
        clip = Clip(found.names, found.parents, found.offsets, found.fps, found.rotations, found.root)
        splits.setdefault(found.split, []).append(clip)
    return splits


def style100(folder: pathlib.Path) -> dict[str, list[Any]]:
    """The same of the 100STYLE data set."""
    from vivant.backends.motion.formats import style100 as reader

    train, ends, unseen = reader.split(reader.read(folder))
    return {"train": train, "ends of known styles": ends, "unseen styles": unseen}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data" / "mocap")
    parser.add_argument("--style100", type=pathlib.Path, help="folder of the 100STYLE data set, to be used instead")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "out" / "phase.safetensors")
    parser.add_argument("--parts", type=int, default=5, choices=(5, 2))
    parser.add_argument("--latents", type=int, default=4, help="sinusoids a part")
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if not options.style100 and not (options.data / "clips.py").is_file():
        raise SystemExit(f"{options.data} holds no motion clips; name their folder with --data.")

    import torch

    module("vivant", ROOT / "__init__.py", package=True)
    from vivant.backends.motion.phase import autoencoder, evaluate, model, training

    torch.set_num_threads(options.threads)
    splits, gaps = (style100(options.style100), PAPER) if options.style100 else (walks(options.data), GAPS)

    start = said = time.monotonic()

    def progress(done: float, total: float, note: str) -> None:
        nonlocal said
        if time.monotonic() - said > 20:
            said = time.monotonic()
            print(f"{said - start:5.0f} s  {note}", flush=True)

    checkpoint = options.out.with_suffix(".training")
    checkpoint.mkdir(parents=True, exist_ok=True)
    trained = training.learn(
        splits.pop("train"), options.minutes, options.parts, options.latents, checkpoint, progress=progress
    )
    model.save(trained, options.out)
    trained = model.load(options.out)  # what was stored is what is measured
    checkpoint.rmdir()
    print(f"\n{options.out}, {options.out.stat().st_size / 2**20:.1f} MB")
    for split, clips in splits.items():
        long = [model.reduced(clip, trained.names) for clip in clips if len(clip) > 2 * clip.fps]
        shares = (f"{part} {autoencoder.explained(entry, long):.3f}" for part, entry in trained.autoencoders.items())
        print(f"\n{split}, {len(long)} clips; R² of the parts' velocities: {'  '.join(shares)}", flush=True)
        print(*evaluate.lines(evaluate.table(trained, long, gaps)), sep="\n", flush=True)


if __name__ == "__main__":
    main()
