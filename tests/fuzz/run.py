"""Coverage-guided fuzzing of a reader: python tests/fuzz/run.py space --seconds 600

What comes out wrong is kept as crash-* (or timeout-*, oom-*) in --keep, and the exit code is not 0.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["lymphtune", "yaml"]):
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.fuzz.harnesses import HARNESSES, Harness

SLOWEST_S, LARGEST_MB, LONGEST = 20, 4000, 20_000  # of one input; its bytes


def options(harness: Harness, seconds: int, folder: Path, corpus: Path, keep: Path) -> list[str]:
    """Return libFuzzer's command line; writes seeds and words to the folder."""
    seeds = folder / "seeds"
    seeds.mkdir()
    for number, seed in enumerate(harness.seeds()):
        (seeds / str(number)).write_bytes(seed)
    words = folder / "words"
    words.write_text("".join(f'"{_quoted(word)}"\n' for word in sorted(set(harness.words()))), encoding="ascii")
    keep.mkdir(parents=True, exist_ok=True)
    corpus.mkdir(parents=True, exist_ok=True)
    return [
        sys.argv[0],
        str(corpus),
        str(seeds),
        f"-dict={words}",
        f"-max_total_time={seconds}",
        f"-timeout={SLOWEST_S}",
        f"-rss_limit_mb={LARGEST_MB}",
        f"-max_len={LONGEST}",
        f"-artifact_prefix={keep}/",
        "-print_final_stats=1",
    ]


def _quoted(word: str) -> str:
    return "".join(rf"\x{byte:02x}" for byte in word.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader", choices=HARNESSES)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", type=Path, help="folder of inputs worth keeping, to go on from (a scratch one)")
    parser.add_argument(
        "--keep", type=Path, default=Path("fuzz"), help="folder for inputs that came out wrong (./fuzz)"
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder, harness = Path(scratch), HARNESSES[asked.reader]
        atheris.Setup(
            options(harness, asked.seconds, folder, asked.corpus or folder / "corpus", asked.keep), harness.read
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
