"""G3, S56, S58: a stopped server delays nobody, and catches up completely.

usage: test_isolation.py [--rounds 5] [--megabytes 200] [--lines 300]

Measures, in turn and in one run, the same host with logs-a alone configured and with logs-b configured beside it but
stopped: throughput of a backlog, and time from write to readable on logs-a of single lines. 'Not worse beyond the spread'
compares the medians with the ranges of the rounds.
"""

import argparse
import os
import random
import statistics
import time

from harness import Failure, Fleet, compare_with_truth, wait_for


def measure(with_dead_server, megabytes, lines):
    with Fleet() as fleet:
        logs = fleet.path("log")
        os.makedirs(logs)
        alive, dead = fleet.server("logs-a"), fleet.server("logs-b")
        servers = ["logs-a", "logs-b"] if with_dead_server else ["logs-a"]
        host = fleet.host("web1", [f"{logs}/*.log"], servers)
        alive.start().wait_ready()
        big = os.path.join(logs, "big.log")
        with open(big, "wb") as file:
            file.write(random.Random(3).randbytes(megabytes << 20))
        begin = time.monotonic()
        host.start()
        top = os.path.join(fleet.logs("logs-a"), "files", "web1", logs.lstrip("/"))

        def stored(prefix):
            try:
                return next((os.path.join(top, name) for name in os.listdir(top) if name.startswith(prefix)), None)
            except FileNotFoundError:
                return None

        def size(prefix):
            path = stored(prefix)
            return os.path.getsize(path) if path else 0

        wait_for(lambda: size("big.log@") == megabytes << 20, "the backlog arrives", 120, pause=0.005)
        throughput = megabytes / (time.monotonic() - begin)
        host.wait_ready()
        latencies = []
        written = 0
        with open(os.path.join(logs, "line.log"), "ab", buffering=0) as file:
            for number in range(lines):
                line = b"line %d of the latency run\n" % number
                written += len(line)
                start = time.perf_counter()
                file.write(line)
                wait_for(lambda: size("line.log@") >= written, "the line arrives", 30, pause=0.0002)
                latencies.append((time.perf_counter() - start) * 1000)
                # A line every 20 ms: a load that J3 doesn't coalesce.
                time.sleep(max(0, 0.02 - (time.perf_counter() - start)))
        if with_dead_server:
            dead.start().wait_ready()
            done = host.settled(120)
            if done.returncode != 0:
                raise Failure(f"the stopped server did not catch up: {done.stdout}{done.stderr}")
            truth = {name: os.path.join(logs, name) for name in os.listdir(logs)}
            for server in servers:
                compare_with_truth(fleet, server, "web1", truth)
        host.stop()
        alive.stop()
        ordered = sorted(latencies)
        return throughput, statistics.median(ordered), ordered[int(len(ordered) * 0.99)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--lines", type=int, default=300)
    chosen = parser.parse_args()
    results = {False: [], True: []}
    for _ in range(chosen.rounds):
        for with_dead in (False, True):
            results[with_dead].append(measure(with_dead, chosen.megabytes, chosen.lines))
    worse = []
    for column, (name, unit, greater_is_better) in enumerate(
        [("throughput", "MiB/s", True), ("latency p50", "ms", False), ("latency p99", "ms", False)]
    ):
        alone = [row[column] for row in results[False]]
        beside = [row[column] for row in results[True]]
        print(
            f"{name}: alone {statistics.median(alone):.2f} ({min(alone):.2f} to {max(alone):.2f}) {unit}, "
            f"beside a stopped server {statistics.median(beside):.2f} ({min(beside):.2f} to {max(beside):.2f})"
        )
        spread = max(alone) - min(alone)
        lost = statistics.median(alone) - statistics.median(beside)
        if (lost if greater_is_better else -lost) > spread:
            worse.append(name)
    print("the stopped server caught up completely in every round")
    if worse:
        raise Failure(f"worse beside a stopped server, beyond the spread: {', '.join(worse)}")


if __name__ == "__main__":
    main()
