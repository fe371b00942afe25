"""Draw the pictures that the documentation shows."""

from pathlib import Path

from lymphtune.cohort.simulated import contact_sheet

if __name__ == "__main__":
    contact_sheet(Path(__file__).parent / "images" / "simulated-cells.png")
