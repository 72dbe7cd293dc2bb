#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""pairs.py IO.json META.json: the table of tests/bench/run."""
import json
import statistics
import sys

# What, unit, A (benchmark, target, parameters, metric), B likewise, aim of A/B.
PAIRS = [
    ("sequential cold read, against raw pipelined libnfs", "MB/s",
     ("io", "ours", {"op": "read", "cache": "cold", "block": "131072"}, "mb_s"),
     ("limits", "libnfs", {"work": "read"}, "mb_s"), ">=0.9"),
    ("sequential write and fsync, against raw pipelined libnfs", "MB/s",
     ("io", "ours", {"op": "write", "block": "1048576"}, "mb_s"),
     ("limits", "libnfs", {"work": "write"}, "mb_s"), ">=0.9"),
    ("re-read from the kernel cache, against a local file", "MB/s",
     ("io", "ours", {"op": "read", "cache": "kernel", "block": "131072"}, "mb_s"),
     ("io", "local", {"op": "read", "cache": "kernel", "block": "131072"}, "mb_s"), ">=0.97"),
    ("re-read from the kernel cache, against tmpfs", "MB/s",
     ("io", "ours", {"op": "read", "cache": "kernel", "block": "131072"}, "mb_s"),
     ("io", "tmpfs", {"op": "read", "cache": "kernel", "block": "131072"}, "mb_s"), "-"),
    ("re-read from the kernel cache, against in-memory FUSE", "MB/s",
     ("io", "ours", {"op": "read", "cache": "kernel", "block": "131072"}, "mb_s"),
     ("limits", "fuse", {"work": "read_cached"}, "mb_s"), "-"),
    ("re-read from the daemon cache, against in-memory FUSE", "MB/s",
     ("io", "ours", {"op": "read", "cache": "daemon", "block": "131072"}, "mb_s"),
     ("limits", "fuse", {"work": "read_dropped"}, "mb_s"), ">=0.95"),
    ("4 KiB buffered writes before fsync, against in-memory FUSE", "MB/s",
     ("io", "ours", {"op": "write", "block": "4096"}, "unsynced_mb_s"),
     ("limits", "fuse", {"work": "write4k"}, "mb_s"), ">=0.95"),
    ("open and close, against GETATTR and an empty FUSE open", "us",
     ("meta", "ours", {"work": "open"}, "op_p50_us"),
     ("limits", "fuse+libnfs", {"work": "open"}, "open_p50_us"), "<=1.1"),
]


def samples(results, where):
    """Of the result that has them; limits are in both, so the file of the benchmark goes first."""
    benchmark, target, parameters, metric = where
    for result in results:
        for cell in result["cells"]:
            if cell["benchmark"] == benchmark and cell["target"] == target and all(
                    cell["parameters"].get(k) == v for k, v in parameters.items()):
                for m in cell["metrics"]:
                    if m["name"] == metric:
                        return m["samples"]
    return []


def spread(values, digits):
    return (f"{statistics.median(values):.{digits}f} "
            f"({min(values):.{digits}f}..{max(values):.{digits}f})")


def main():
    io, meta = (json.load(open(name, encoding="utf-8")) for name in sys.argv[1:3])
    print(f"{'':60} {'':>5} {'ours (range)':>26} {'floor (range)':>26} {'ratio (range)':>20} {'aim':>7}")
    for what, unit, ours, floor, aim in PAIRS:
        results = [meta, io] if ours[0] == "meta" else [io, meta]
        pairs = list(zip(samples(results, ours), samples(results, floor)))
        if not pairs:
            sys.exit(f"pairs.py: not measured: {what}")
        ratios = [a / b for a, b in pairs]
        digits = 1 if unit == "us" else 0
        middle, short = statistics.median(ratios), ""
        if aim.startswith(">=") and middle < float(aim[2:]) or aim.startswith("<=") and middle > float(aim[2:]):
            short = "  short of it"
        print(f"{what:60} {unit:>5} {spread([a for a, _ in pairs], digits):>26} "
              f"{spread([b for _, b in pairs], digits):>26} {spread(ratios, 2):>20} {aim:>7}{short}")


main()
