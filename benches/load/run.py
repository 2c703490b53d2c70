#!/usr/bin/env python3
"""The gateway beside a bare pingora pass-through, nginx and envoy: one run, one machine, tables of medians.

README.md beside this file says what the figures mean. All load stays on 127.0.0.1.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile

import measure
import peers as fleet

TITLES = {
    "pass": "pass: forwarded, 1,000 users within their limits",
    "refuse": "refuse: every request answered 429 by the proxy itself",
    "idle": "idle: memory of a keep-alive connection that has done one request",
    "big": "big: answers of 1 MiB",
    "room": "room: what everybody in a waiting room reads, beside an answer that says nothing",
}
EXTRA, EXTRA_NEVER, REFUSAL, IDLE = 8.0, 15.0, 12.0, 25.0
# Least share of the plain answers a second.
FRONTIER, STATUS = 80.0, 60.0
COUNTED = 4000


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", default="pass,refuse,idle", help="of pass, refuse, idle, big, room (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each peer, interleaved (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=3, help="length of a round (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=64, help="keep-alive connections (default: %(default)s)")
    parser.add_argument("--idle", type=int, default=5000, help="connections of the idle test (default: %(default)s)")
    parser.add_argument("--proxy-core", type=int, default=1, help="the proxy's core (default: %(default)s)")
    parser.add_argument("--load-core", type=int, default=0, help="wrk's and the upstream's (default: %(default)s)")
    parser.add_argument("--count", choices=("auto", "perf", "callgrind", "off"), default="auto",
                        help="how instructions are counted; auto: perf, else callgrind (default: %(default)s)")
    parser.add_argument("--only", default="", help="peers whose names begin with one of these, with commas between")
    parser.add_argument("--no-build", action="store_true", help="take the binaries that are there")
    parser.add_argument("--json", metavar="FILE", help="write the figures of every round there")
    parser.add_argument("--keep", action="store_true", help="keep the scratch folder: configurations, logs, profiles")
    given = parser.parse_args()
    given.tests = given.tests.split(",")
    unknown = set(given.tests) - set(TITLES)
    if unknown:
        parser.error("no such test: " + ", ".join(sorted(unknown)))
    return given


def say(text=""):
    print(text, flush=True)


def progress(text):
    print("  " + text, file=sys.stderr, flush=True)


def build():
    subprocess.run(["cargo", "build", "--release", "--bin", "tidegate", "--example", "bare_pingora"], cwd=fleet.ROOT,
                   check=True)


def counter(given):
    if given.count == "auto":
        return "perf" if measure.perf_counts() else "callgrind" if measure.Callgrind.there() else "off"
    return given.count


def chosen(test, given):
    peers = fleet.peers_for(test)
    wanted = tuple(given.only.split(","))
    return [peer for peer in peers if not given.only or peer.name.startswith(wanted)]


def median(rows, key):
    return statistics.median(row[key] for row in rows)


def shown(value, digits=1):
    return "–" if value is None or value != value else "%.*f" % (digits, value)


def table(head, rows):
    say("| " + " | ".join(head) + " |")
    say("|" + "---|" * len(head))
    for row in rows:
        say("| " + " | ".join(row) + " |")
    say()


def wrong(test, row):
    """Answers that were not what the test is about."""
    if test == "room":
        return row["broken"]
    return row["broken"] + (row["requests"] - row["not_2xx"] if test == "refuse" else row["not_2xx"])


def load_test(test, machine, given, how):
    """Interleaved rounds: every round visits every peer, and each time another one goes first."""
    peers = chosen(test, given)
    connections = 16 if test == "big" else given.connections
    rounds = {peer.name: [] for peer in peers}
    for peer in peers:
        machine.start(peer)
        measure.load(machine, peer, 1, connections, False)
    for number in range(given.rounds):
        first = number % len(peers)
        for peer in peers[first:] + peers[:first]:
            row = measure.load(machine, peer, given.seconds, connections, how == "perf")
            rounds[peer.name].append(row)
            progress("%s %d  %-20s %8.0f/s  %6.1f us" % (test, number + 1, peer.name, row["rate"], row["us"]))
    for peer in peers:
        machine.stop(peer.process)
    counted = {name: median(rows, "user_k") for name, rows in rounds.items()}
    if how == "callgrind" and test != "big":
        counted = {peer.name: count(machine, peer, given) for peer in peers}
    say("### " + TITLES[test])
    say()
    table(["peer", "requests/s", "CPU us/request, median (best)", "user + system", "thousand instructions, user",
           "kernel", "p50 ms", "p99 ms", "core busy %", "wrong answers"],
          [[name, shown(median(rows, "rate"), 0),
            "%s (%s)" % (shown(median(rows, "us")), shown(min(row["us"] for row in rows))),
            "%s + %s" % (shown(median(rows, "user_us")), shown(median(rows, "system_us"))),
            shown(counted[name]), shown(median(rows, "kernel_k")), shown(median(rows, "p50"), 2),
            shown(median(rows, "p99"), 2), shown(median(rows, "busy"), 0), str(sum(wrong(test, row) for row in rows))]
           for name, rows in rounds.items()])
    targets(test, counted)
    if test == "room":
        frontier_target(rounds)
    return {"rounds": rounds, "user_k": counted}


def count(machine, peer, given):
    """Instructions counted on valgrind, or None for a peer that cannot run there."""
    progress("counting the instructions of %s" % peer.name)
    try:
        return measure.Callgrind(machine).kilo_instructions(peer, COUNTED, given.connections)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        progress("not counted: %s" % str(error).strip().splitlines()[-1])
        return None


def verdict(what, value, target, unit, never=None):
    if value is None or value != value:
        return say("- %s: target at most %g %s; **not measured**" % (what, target, unit))
    judged = "met" if value <= target else "missed" if not never or value <= never else "missed by far"
    limit = " (never over %g)" % never if never else ""
    say("- %s: %.1f %s; target at most %g%s: **%s**" % (what, value, unit, target, limit, judged))


def targets(test, counted):
    unit = "thousand user instructions"
    limited, floor = counted.get("tidegate, 3 limits"), counted.get("bare pingora")
    if test == "pass":
        above = limited - floor if limited is not None and floor is not None else None
        verdict("forwarded with three limits, above bare pingora", above, EXTRA, unit, EXTRA_NEVER)
    elif test == "refuse":
        verdict("a refusal, in all", counted.get("tidegate"), REFUSAL, unit)
    say()


def frontier_target(rounds):
    plain, frontier, status = (median(rows, "rate") for rows in rounds.values())
    for what, rate, least in (("the frontier document", frontier, FRONTIER), ("a look at one's place", status, STATUS)):
        share = 100.0 * rate / plain
        judged = "met" if share >= least else "missed"
        say("- %s: %.0f %% of the plain answers a second; target at least %g %%: **%s**" % (what, share, least, judged))
    say()


def idle_test(machine, given):
    found = {}
    for peer in chosen("idle", given):
        progress("idle connections of %s" % peer.name)
        found[peer.name] = measure.idle_kib(machine, peer, given.idle)
    say("### %s, %d connections" % (TITLES["idle"], given.idle))
    say()
    table(["peer", "KiB per connection", "MiB before"],
          [[name, shown(each), shown(before / 1024)] for name, (each, before) in found.items()])
    each = found.get("tidegate, 3 limits", (None,))[0]
    verdict("an idle connection", each, IDLE, "KiB")
    say()
    return found


def allow_files(wanted):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


def introduce(given, how, machine):
    say("Proxies on core %d with one worker thread; wrk and the upstream (%s) on core %d; %d connections;" % (
        given.proxy_core, "nginx" if fleet.NGINX else "bare pingora", given.load_core, given.connections))
    say("%d rounds of %d s; load of the machine before: %.1f. Instructions: %s." % (
        given.rounds, given.seconds, os.getloadavg()[0],
        {"perf": "perf", "callgrind": "callgrind, user part only, %d requests in a run of their own" % COUNTED,
         "off": "not counted (neither perf's counters nor valgrind here)"}[how]))
    if fleet.missing():
        say("Not installed, left out: %s." % ", ".join(fleet.missing()))
    if machine.scratch and given.keep:
        say("Scratch folder: %s" % machine.scratch)
    say()


def main():
    given = arguments()
    if not shutil.which("wrk") or not shutil.which("taskset"):
        sys.exit("wrk and taskset are needed: apt-get install wrk util-linux")
    if not given.no_build:
        build()
    how = counter(given)
    allow_files(2 * given.idle + 1000)
    machine = fleet.Machine(tempfile.mkdtemp(prefix="tidegate-load-"), given.proxy_core, given.load_core)
    figures = {}
    try:
        introduce(given, how, machine)
        machine.start_upstream()
        for test in given.tests:
            figures[test] = idle_test(machine, given) if test == "idle" else load_test(test, machine, given, how)
    finally:
        machine.close()
        if not given.keep:
            shutil.rmtree(machine.scratch, ignore_errors=True)
    if given.json:
        with open(given.json, "w") as out:
            json.dump(figures, out, indent=1)


if __name__ == "__main__":
    main()
