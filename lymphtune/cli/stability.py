"""lymphtune stability: how the spread of balanced accuracy depends on the number of averaged runs."""

import argparse

from lymphtune.cli.options import Commands, add_command, add_moved_data, add_runs, add_source
from lymphtune.result import Result


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "stability",
        "show how the spread of balanced accuracy depends on the number of averaged runs",
        "lymphtune stability --run mixed --sizes 1,2,3,5,10 --retrain 5",
    )
    parser.add_argument("--run", metavar="NAME", help="run to sample from (default: the latest)")
    add_runs(parser)
    parser.add_argument(
        "--sizes", type=whole_numbers, metavar="N,N", help="ensemble sizes (default: of 1,2,3,5,10 those that fit)"
    )
    add_source(parser, "networks", "networks")
    parser.add_argument("--pool", type=int, metavar="N", help="best trials to sample from (default: 20 at most)")
    parser.add_argument("--draws", type=int, default=1000, metavar="N", help="ensembles of each size (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the sampling (default: 0)")
    parser.add_argument(
        "--retrain",
        type=int,
        nargs="?",
        const=5,
        metavar="N",
        help="first retrain the best configurations with N new seeds (without N: 5), as the run NAME-retrained",
    )
    add_moved_data(parser)
    parser.add_argument(
        "--address",
        metavar="A",
        help="address of a Ray cluster for --retrain: auto or HOST:PORT (default: a Ray on this machine alone)",
    )
    parser.set_defaults(call=stability)


def whole_numbers(text: str) -> list[int]:
    """Return the numbers of 1,2,3."""
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: expected whole numbers such as 1,2,3,5,10") from error


def stability(arguments: argparse.Namespace) -> Result:
    from lymphtune.ensembling.ensemble_spread import check_draws, checked_sizes, default_sizes, measure_stability
    from lymphtune.ensembling.single_runs import trials_to_retrain
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
