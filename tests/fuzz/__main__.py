"""``python -m tests.fuzz``: the targets for a while each, guided by coverage where atheris is.

A finding is a file ``.fuzz/TARGET/crash-…`` and the trace; ``--replay FILE`` runs it again.
"""

import argparse
import hashlib
import logging
import subprocess
import sys
import time
import traceback
from importlib.util import find_spec
from pathlib import Path
from random import Random

FOUND = Path(".fuzz")


def say(text: str) -> None:
    """A line, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def guided(name: str, seconds: int) -> int:
    """Run libFuzzer through atheris, in a process of its own: it ends the process."""
    where = FOUND / name
    corpus = where / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.fuzz", f"--guided={name}", f"--seconds={seconds}"]
    return subprocess.run(command, check=False).returncode


def run_guided(name: str, seconds: int) -> None:
    """What ``guided`` starts."""
    import atheris  # noqa: PLC0415 - an extra

    with atheris.instrument_imports(include=["tailnet"]):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - instrumented
    target = TARGETS[name]
    where = FOUND / name
    for seed in target.seeds:
        (where / "corpus" / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    limits = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=10", "-rss_limit_mb=2048"]
    files = [f"-artifact_prefix={where}/", str(where / "corpus")]
    atheris.Setup([name, "-verbosity=0", *limits, *files], target.run)
    atheris.Fuzz()


def unguided(name: str, seconds: int, seed: int) -> int:
    """Mutations of the seeds."""
    from tests.fuzz.mutate import mutate  # noqa: PLC0415 - after the choice
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415

    target, random = TARGETS[name], Random(seed)
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        data = mutate(random, target.seeds)
        try:
            target.run(data)
        except Exception:  # noqa: BLE001 - that is what is looked for
            where = FOUND / name
            where.mkdir(parents=True, exist_ok=True)
            file = where / f"crash-{hashlib.sha1(data).hexdigest()}"
            file.write_bytes(data)
            say(f"{name}: found {file}")
            traceback.print_exc()
            return 1
        count += 1
    say(f"{name}: {count} inputs, nothing found")
    return 0


def main() -> int:
    """Run what was asked for; the exit code is 0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help="all of them if none is named")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--seed", type=int, default=None, help="of mutations without atheris")
    parser.add_argument("--replay", type=Path, help="run the one target on this file")
    parser.add_argument("--plain", action="store_true", help="mutation even where atheris is")
    parser.add_argument("--list", action="store_true", help="name the targets and their claims")
    parser.add_argument("--guided", help=argparse.SUPPRESS)
    args = parser.parse_args()
    logging.disable()
    if args.guided:
        run_guided(args.guided, args.seconds)
        return 0
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - late for instrumentation

    if args.list:
        for name, target in TARGETS.items():
            say(f"{name}: {target.claim}")
        return 0
    if unknown := set(args.targets) - TARGETS.keys():
        parser.error(f"no such target: {', '.join(sorted(unknown))}; see --list")
    names = args.targets or list(TARGETS)
    if args.replay:
        for name in names:
            TARGETS[name].run(args.replay.read_bytes())
        return 0
    has_atheris = find_spec("atheris") is not None and not args.plain
    say("guided by coverage" if has_atheris else "atheris is not here: plain mutation")
    failed = []
    for number, name in enumerate(names):
        seed = time.time_ns() if args.seed is None else args.seed + number
        run = guided(name, args.seconds) if has_atheris else unguided(name, args.seconds, seed)
        failed += [name] if run else []
    say(f"found something: {', '.join(failed)}" if failed else f"{len(names)} targets, nothing")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
