"""The questions that a report answers, in order; each file has `section(facts)`: the answer, or None where it has none.

A new one is one file and its name in SECTIONS.
"""

SECTIONS = (
    "verdict",
    "leaderboard",
    "study",
    "stability",
    "selection",
    "search",
    "patients",
    "robustness",
    "cohort",
    "writing",
)
