"""What a run measures: processor time, instructions, memory, and wrk's figures."""

import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import time

from peers import HERE

TICKS = os.sysconf("SC_CLK_TCK")
USERS = 1000
EVENTS = ("instructions:u", "instructions:k")


def processor_seconds(pid):
    """User and system time of a process so far."""
    with open("/proc/%d/stat" % pid) as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return int(fields[11]) / TICKS, int(fields[12]) / TICKS


def resident_kib(pid):
    with open("/proc/%d/status" % pid) as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def perf_counts():
    """Whether this machine lets perf count instructions; many virtual machines do not."""
    if not shutil.which("perf"):
        return False
    tried = subprocess.run(["perf", "stat", "-x,", "-e", ",".join(EVENTS), "true"], capture_output=True, text=True)
    return tried.returncode == 0 and "<not" not in tried.stderr


class Perf:
    """Counts the instructions of a process while it is attached."""

    def __init__(self, pid, core):
        # Far from the proxy's core: counting must not take its time.
        self.process = subprocess.Popen(
            ["taskset", "-c", str(core), "perf", "stat", "-x,", "-e", ",".join(EVENTS), "-p", str(pid)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(0.3)

    def finish(self):
        """User and kernel instructions."""
        self.process.send_signal(signal.SIGINT)
        rows = [line.split(",") for line in self.process.communicate()[1].splitlines()]
        found = {row[2]: float(row[0]) for row in rows if len(row) > 2 and row[0].isdigit()}
        return tuple(found.get(event, float("nan")) for event in EVENTS)


def load(machine, peer, seconds, connections, count):
    """One round of wrk: a row of figures."""
    command = ["taskset", "-c", str(machine.load_core), "wrk", "-t1", "-c%d" % connections, "-d%ds" % seconds,
               "--latency", "--timeout", "10s", "-s", os.path.join(HERE, "users.lua"),
               "http://127.0.0.1:%d" % peer.port, "--", peer.path] + ([peer.ticket()] if peer.ticket() else [])
    perf = Perf(peer.pid, machine.load_core) if count else None
    before, started = processor_seconds(peer.pid), time.monotonic()
    run = subprocess.run(command, capture_output=True, text=True)
    after, elapsed = processor_seconds(peer.pid), time.monotonic() - started
    user, kernel = perf.finish() if perf else (float("nan"), float("nan"))
    line = next((line for line in run.stdout.splitlines() if line.startswith("result ")), None)
    if not line:
        raise RuntimeError("wrk said nothing of use:\n" + run.stdout + run.stderr)
    row = json.loads(line[len("result "):])
    requests = max(1, row["requests"])
    spent = [end - start for start, end in zip(before, after)]
    row.update(rate=row["requests"] / row["seconds"], user_us=spent[0] * 1e6 / requests,
               system_us=spent[1] * 1e6 / requests, us=sum(spent) * 1e6 / requests, busy=100 * sum(spent) / elapsed,
               user_k=user / requests / 1e3, kernel_k=kernel / requests / 1e3)
    return row


class Client:
    """Keep-alive connections that send an exact number of requests, all connections at once."""

    def __init__(self, peer, connections):
        self.peer, self.sent = peer, 0
        self.sockets = [socket.create_connection(("127.0.0.1", peer.port), 30) for _ in range(connections)]

    def send(self, requests):
        """Sends that many; returns the set of answered statuses."""
        statuses = set()
        while requests > 0:
            batch = self.sockets[:requests]
            for connection in batch:
                connection.sendall(request(self.peer, self.sent % USERS + 1))
                self.sent += 1
            statuses.update(answer(connection) for connection in batch)
            requests -= len(batch)
        return statuses

    def close(self):
        for connection in self.sockets:
            connection.close()


def request(peer, user):
    return b"GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-User: user-%d\r\n\r\n" % (
        peer.path.encode(), peer.port, user)


def answer(connection):
    """Reads one answer; returns its status."""
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(65536)
        if not more:
            raise ConnectionError("closed by the proxy")
        received += more
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    rest = next(int(line[15:]) for line in lines if line.startswith(b"content-length:")) - len(body)
    while rest > 0:
        rest -= len(connection.recv(65536))
    return int(lines[0].split()[1])


# To valgrind `rep movsb` is an instruction for every byte it copies, to a processor it is one. Without it glibc copies
# with vectors, which both count alike.
HONEST_COPIES = "glibc.cpu.x86_rep_movsb_threshold=1000000000:glibc.cpu.x86_rep_stosb_threshold=1000000000"


class Callgrind:
    """Counts user instructions where perf cannot: runs the proxy on valgrind's made-up processor.

    That is some thirty times slower, so it has a run of its own, with an exact number of requests; nothing else on the
    machine changes the count.
    """

    def __init__(self, machine):
        self.machine = machine

    @staticmethod
    def there():
        return bool(shutil.which("valgrind") and shutil.which("callgrind_control"))

    def kilo_instructions(self, peer, requests, connections):
        """User instructions per request, in thousands. The profile stays in the scratch folder."""
        name = "%s%s" % (peer.name.replace(",", ""), peer.path)
        out = os.path.join(self.machine.scratch, "callgrind." + name.replace(" ", "-").replace("/", "-"))
        under = ["env", "GLIBC_TUNABLES=" + HONEST_COPIES, "valgrind", "--tool=callgrind",
                 "--callgrind-out-file=" + out]
        self.machine.start(peer, under, patience=120)
        try:
            client = Client(peer, connections)
            client.send(2 * USERS)
            # What it does while nobody asks anything is not a request's.
            self.control("-z", peer)
            time.sleep(2)
            idle = self.dump(peer, out) / 2
            started = time.monotonic()
            client.send(requests)
            elapsed = time.monotonic() - started
            counted = self.dump(peer, out)
            client.close()
        finally:
            self.machine.stop(peer.process)
        return (counted - idle * elapsed) / requests / 1e3

    @staticmethod
    def control(what, peer):
        subprocess.run(["callgrind_control", what, str(peer.pid)], check=True, capture_output=True)

    def dump(self, peer, out):
        """Instructions since the last dump."""
        self.control("-d", peer)
        newest = max(glob.glob(out + ".*"), key=lambda name: int(name.rsplit(".", 1)[1]))
        with open(newest) as profile:
            return next(int(line.split()[1]) for line in profile if line.startswith("totals:"))


def idle_kib(machine, peer, connections):
    """Memory per idle connection after one request on each, in KiB, and memory before."""
    machine.start(peer)
    warm = Client(peer, 1)
    warm.send(100)
    time.sleep(1)
    before = resident_kib(peer.pid)
    sockets = []
    try:
        for number in range(connections):
            connection = socket.create_connection(("127.0.0.1", peer.port), 10)
            sockets.append(connection)
            connection.sendall(request(peer, number % USERS + 1))
            if answer(connection) != 200:
                raise RuntimeError("%s refused a connection" % peer.name)
        time.sleep(1)
        return (resident_kib(peer.pid) - before) / connections, before
    finally:
        for connection in sockets + warm.sockets:
            connection.close()
        machine.stop(peer.process)
