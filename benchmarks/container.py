"""What an image costs: its size, how soon it is ready, its memory, and whether it is made the same.

    python benchmarks/container.py

A model of XGBoost is promoted in a project of its own, and the image of it is built from nothing by
buildah and again by podman, both without their caches. The base is made of this machine's Python,
since no registry is asked. Then a container is started some times: what is printed are medians.
Debian's buildah, podman and runc must be installed, and all they keep is in a temporary folder.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import promotion_acts as acts
from rootfs import write_rootfs
from test_container import LOCK

from mlnb import promotion, trust
from mlnb.deploy import container, context
from mlnb.project import find

STARTS = 5
BASE = "localhost/python:slim"
ENGINES = ("buildah", "podman")


def main() -> None:
    """Build, start, print."""
    with tempfile.TemporaryDirectory(prefix="mlnb-container-") as name:
        home = Path(name)
        _settle(home)
        project = _promoted(home / "project")
        begun = time.perf_counter()
        made = context.write_context(
            find(project), "production", home / "context", base=BASE, insecure=True
        )
        print(f"context    {time.perf_counter() - begun:6.1f} s, fetching the wheels included")
        try:
            images = set()
            for engine in ENGINES:
                begun = time.perf_counter()
                words = ["--no-cache"]
                images.add(container.build(made.folder, made.tag, engine=engine, words=words))
                print(f"build      {time.perf_counter() - begun:6.1f} s by {engine}")
            print(f"images     {len(images)}: {'the same' if len(images) == 1 else 'NOT the same'}")
            for tag in (BASE, made.tag):
                print(f"size       {_size(tag) / 1e6:6.0f} MB of {tag}")
            seconds, kilobytes = zip(*(_start(made.tag) for _ in range(STARTS)), strict=True)
            print(f"ready      {statistics.median(seconds):6.2f} s after podman run")
            print(f"resident   {statistics.median(kilobytes) / 1e3:6.0f} MB")
        finally:
            for words in (["rm", "-fa"], ["volume", "prune", "-f"], ["rmi", "-fa"]):
                subprocess.run(["podman", *words], check=False, capture_output=True)


def _settle(home: Path) -> None:
    """Keep all in ``home``, and have a base image there."""
    (home / "containers.conf").write_text(
        '[containers]\ndefault_ulimits=["nofile=1024:1024","nproc=4096:4096"]\n'
        '[engine]\nruntime="runc"\ncgroup_manager="cgroupfs"\nevents_logger="file"\n'
    )
    (home / "storage.conf").write_text(
        f'[storage]\ndriver="overlay"\ngraphroot="{home}/store"\nrunroot="{home}/run"\n'
    )
    os.environ["CONTAINERS_CONF"] = str(home / "containers.conf")
    os.environ["CONTAINERS_STORAGE_CONF"] = str(home / "storage.conf")
    os.environ["XDG_CONFIG_HOME"] = str(home / "config")
    base = home / "base"
    base.mkdir()
    write_rootfs(base / "base.tar")
    (base / "Dockerfile").write_text("FROM scratch\nADD base.tar /\nENV PATH=/usr/local/bin:/bin\n")
    command = ["buildah", "build", "--timestamp=0", f"--tag={BASE}", str(base)]
    subprocess.run(command, check=True, capture_output=True)


def _promoted(root: Path) -> Path:
    """Make a project with a model of XGBoost in production; return it."""
    acts.begun(root)
    os.chdir(root)
    trust.new_key("ada", root / "deployments/keys")
    acts.train(root, "binary-xgboost")
    promotion.promote(find(), "production", reason="the first")
    (root / LOCK.name).write_bytes(LOCK.read_bytes())
    return root


def _size(tag: str) -> int:
    command = ["podman", "inspect", "--type=image", tag]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(json.loads(done.stdout)[0]["Size"])


def _start(tag: str) -> tuple[float, float]:
    """Return after how many seconds a container is ready, and its kilobytes then."""
    begun = time.perf_counter()
    container.start(tag, "bench", port=0, engine="podman", words=["--no-healthcheck"])
    port = container.published_port("bench", engine="podman")
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5).close()
            break
        except OSError:
            time.sleep(0.005)
    seconds = time.perf_counter() - begun
    code = "print(*[w for l in open('/proc/1/status') if 'VmRSS' in l for w in l.split()])"
    command = ["podman", "exec", "bench", "python", "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    container.stop("bench", engine="podman")
    return seconds, float(done.stdout.split()[1])


if __name__ == "__main__":
    main()
