"""How long the demo takes on this machine, with AVX-512 and without it.

    python benchmarks/demo.py [--rounds 2]

Runs the commands of `make demo`, as the Makefile has them, in an empty folder and with an empty cache: as the machine
is and, where it has AVX-512, also with AVX-512 switched off in torch, oneDNN, MKL, OpenBLAS and numpy, in turns. Prints
the machine and the seconds of each command, the least of the rounds; exits with 1 where a command fails.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lymphtune.platforms import processor, usable_cpus

ROOT = Path(__file__).resolve().parent.parent
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR",
}


def demo_commands(makefile: str) -> list[list[str]]:
    """Return the words after `lymphtune` of each command of the target `demo`."""
    lines = makefile.split("\ndemo:", 1)[1].splitlines()[1:]
    recipe = lines[: next((n for n, line in enumerate(lines) if not line.startswith("\t")), len(lines))]
    return [shlex.split(line)[1:] for line in recipe if "/lymphtune " in line]


def seconds(words: list[str], folder: Path, environment: dict[str, str]) -> float:
    """Return how long a command of lymphtune took in `folder`; raises SystemExit where it failed."""
    started = time.monotonic()
    asked = os.environ | {"LYMPHTUNE_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT)} | environment
    ended = subprocess.run(
        [sys.executable, "-m", "lymphtune", *words],
        cwd=folder,
        env=asked,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if ended.returncode:
        print(ended.stdout)
        raise SystemExit(1)
    return time.monotonic() - started


def machine() -> str:
    """Return the processor, its cores and what torch may use of it."""
    import torch

    return f"{usable_cpus()} cores of {processor()}, {torch.backends.cpu.get_cpu_capability()}"


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rounds", type=int, default=2, metavar="N", help="runs of each kind (default: 2)")
    rounds = asked.parse_args().rounds
    commands = demo_commands((ROOT / "Makefile").read_text(encoding="utf-8"))
    print(described := machine())
    kinds = {"as it is": {}} | ({"without AVX-512": AVX2} if described.endswith("AVX512") else {})
    took: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, environment in kinds.items():
            with tempfile.TemporaryDirectory() as folder:
                took[kind].append([seconds(words, Path(folder), environment) for words in commands])
    for kind, of_rounds in took.items():
        least = [min(of_command) for of_command in zip(*of_rounds, strict=True)]
        parts = ", ".join(f"{words[0]} {s:.0f} s" for words, s in zip(commands, least, strict=True))
        print(f"{kind}: {parts}, together {sum(least):.0f} s; of {rounds} rounds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
