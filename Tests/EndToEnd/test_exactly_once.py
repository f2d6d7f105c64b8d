"""G1, F1, F2, S02, S41, S51: a torn writer, real logrotate each second, kill -9 of everything, for a while.

usage: test_exactly_once.py [--seconds 120] [--rate 5000] [--seeds 1] [--first-seed N]
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time

from harness import Failure, Fleet, compare_with_truth, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))


def logrotate_configuration(fleet, log, truth):
    path = fleet.path("logrotate.conf")
    with open(path, "w") as file:
        file.write(
            f'"{log}" {{\n  rotate 1000\n  size 1\n  nocompress\n  missingok\n  create 0644\n'
            f"  postrotate\n    kill -HUP $(cat {truth}/pid)\n  endscript\n}}\n"
        )
    os.chmod(path, 0o644)
    return path


def run(seed, seconds, rate):
    chance = random.Random(seed)
    with Fleet() as fleet:
        logs, truth = fleet.path("var", "log"), fleet.path("truth")
        os.makedirs(logs, mode=0o755)
        os.makedirs(truth)
        nodes = [fleet.server("logs-a"), fleet.server("logs-b")]
        nodes.append(fleet.host("web1", [f"{logs}/**/app.log*"], ["logs-a", "logs-b"]))
        for node in nodes:
            node.start()
        for node in nodes:
            node.wait_ready()
        log = os.path.join(logs, "app.log")
        writer = subprocess.Popen([sys.executable, os.path.join(HERE, "writer.py"), log, truth, str(rate), str(seconds)])
        wait_for(lambda: os.path.exists(os.path.join(truth, "pid")), "the writer runs")
        configuration = logrotate_configuration(fleet, log, truth)
        kills = rotations = 0
        begin = time.monotonic()
        next_kill, next_rotation = begin + chance.uniform(0.5, 1.5), begin + 1
        try:
            while writer.poll() is None:
                now = time.monotonic()
                if now > begin + seconds + 60:
                    raise Failure("the writer did not end")
                if now >= next_rotation and now < begin + seconds - 1:
                    subprocess.run(
                        ["logrotate", "-f", "-s", fleet.path("logrotate.state"), configuration], check=True
                    )
                    rotations += 1
                    next_rotation = now + 1
                if now >= next_kill:
                    node = chance.choice(nodes)
                    node.kill()
                    node.start()
                    kills += 1
                    next_kill = now + chance.uniform(0.5, 1.5)
                time.sleep(min(0.05, max(0, min(next_kill, next_rotation) - time.monotonic())))
        finally:
            if writer.poll() is None:
                writer.send_signal(signal.SIGTERM)
            writer.wait()
        for node in nodes:
            node.wait_ready()
        done = nodes[-1].settled(120)
        if done.returncode != 0:
            raise Failure(f"status --settled ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        strings = {name: os.path.join(truth, name) for name in os.listdir(truth) if name.endswith(".bytes")}
        sizes = [compare_with_truth(fleet, server, "web1", strings) for server in ("logs-a", "logs-b")]
        lines = sum(open(path, "rb").read().count(b"\n") for path in strings.values())
        print(
            f"seed {seed}: {seconds} s, {kills} kills, {rotations} rotations, {len(strings)} files, {lines} lines, "
            f"{sizes[0]} bytes on logs-a, {sizes[1]} on logs-b: nothing lost, nothing twice",
            flush=True,
        )
        for node in nodes:
            node.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--rate", type=float, default=5000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=1)
    chosen = parser.parse_args()
    for number in range(chosen.first_seed, chosen.first_seed + chosen.seeds):
        run(number, chosen.seconds, chosen.rate)
