"""lymphtune stability: whether averaging steadies a run's answer, and what is left of its scatter."""

import argparse

from lymphtune.cli.options import add_command, add_runs
from lymphtune.result import Told


def add(commands: argparse._SubParsersAction) -> None:
    parser = add_command(
        commands, "stability", "show how balanced accuracy scatters with the number of runs averaged",
        "lymphtune stability --run mixed --sizes 1,2,3,5,10 --retrain 5",
    )  # fmt: skip
    parser.add_argument("--run", metavar="NAME", help="run to draw from (the latest)")
    add_runs(parser)
    parser.add_argument(
        "--sizes", type=whole_numbers, metavar="N,N", help="runs averaged (of 1,2,3,5,10 those there are)"
    )
    parser.add_argument(
        "--from", dest="source", choices=("networks", "clinical", "all"), default="networks", help="(networks)"
    )
    parser.add_argument("--pool", type=int, metavar="N", help="best trials to draw from (20, or all if fewer)")
    parser.add_argument("--draws", type=int, default=1000, metavar="N", help="ensembles of each size (1000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the draws (0)")
    parser.add_argument(
        "--retrain", type=int, nargs="?", const=5, metavar="N",
        help="train the best configurations again from N new seeds first (5), as the run NAME-retrained",
    )  # fmt: skip
    parser.add_argument("--data", metavar="D", help="the run's cohort where it has moved, for --retrain (as then)")
    parser.add_argument("--address", metavar="A", help="of a Ray cluster, for --retrain (this machine alone)")
    parser.set_defaults(call=stability)


def whole_numbers(text: str) -> list[int]:
    """Return the numbers of 1,2,3."""
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: expected whole numbers such as 1,2,3,5,10") from error


def stability(arguments: argparse.Namespace) -> Told:
    from lymphtune.ensembling.single_runs import trials_to_retrain
    from lymphtune.ensembling.stability import check_draws, checked_sizes, default_sizes, measure_stability
    from lymphtune.runs.run import find_run

    run, pool = find_run(arguments.run, arguments.runs), arguments.pool
    sizes = checked_sizes(arguments.sizes or default_sizes(run, arguments.source, pool, arguments.retrain))
    check_draws(arguments.draws, arguments.seed)
    if arguments.retrain is not None:
        from lymphtune.cluster.retrain import retrain

        trials = trials_to_retrain(run, arguments.source, sizes[-1], arguments.retrain, pool)
        run, pool = retrain(run, trials, arguments.retrain, arguments.data, arguments.address, arguments.storage), None
    given = {"source": arguments.source, "pool": pool, "draws": arguments.draws, "seed": arguments.seed}
    found = measure_stability(run, sizes, **given)
    if arguments.retrain is not None:
        from lymphtune.cli.remote import send_now

        send_now(arguments, run.name, "stability")
    return found
