"""The proxies of a run: how each is configured and started, and what it listens on."""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
RELEASE = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "release")
GATEWAY = os.path.join(RELEASE, "tidegate")
BARE = os.path.join(RELEASE, "examples", "bare_pingora")
ENVOY = os.environ.get("ENVOY") or shutil.which("envoy")
NGINX = shutil.which("nginx")

# Paths of equal length, so that no peer parses more than another.
PASS, OPEN, SHUT, BIG = "/pass/order", "/open/order", "/shut/order", "/pass/large"
BIG_BYTES = 1 << 20
# An answer of the gateway's own that says nothing, and the document that everybody in a waiting room reads.
NONE, FRONTIER, STATUS = "/none/order", "/.tidegate/wr/drop/frontier", "/.tidegate/wr/drop/status"
# Three tiers that never refuse.
PLENTY = 1_000_000


def wait_in_line(port):
    """Joins the room, whose one place is taken first, and waits until a look is not too soon."""
    def ask(path, ticket, method):
        wire = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        wire.request(method, path, headers={"X-Tidegate-Room": "1", "X-Tidegate-Ticket": ticket})
        answer = wire.getresponse()
        answer.read()
        return answer.status, answer.getheader("X-Tidegate-Ticket") or ticket

    join, ticket = STATUS.replace("/status", "/join"), ""
    status, holder = ask(join, "", "POST")
    status, holder = ask(join, holder, "POST")
    for _ in range(2):
        status, ticket = ask(join, ticket, "POST")
    for _ in range(120):
        if ask(STATUS, ticket, "GET")[0] == 200:
            return ticket
        time.sleep(0.5)
    raise RuntimeError("nobody may look in the waiting room")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Peer:
    """One proxy as it is set up for one test."""

    def __init__(self, name, configure, path):
        self.name, self.configure, self.path = name, configure, path
        self.port = self.process = self.held = None

    def ticket(self):
        """The ticket of somebody who waits in the room and may look again; None where the path needs none."""
        if self.path == STATUS and not self.held:
            self.held = wait_in_line(self.port)
        return self.held

    @property
    def pid(self):
        return self.process.pid


class Machine:
    """Starts processes on their cores and ends them again, and only them."""

    def __init__(self, scratch, proxy_core, load_core):
        self.scratch, self.proxy_core, self.load_core = scratch, proxy_core, load_core
        self.running = []
        self.upstream = None

    def spawn(self, command, core, log, port, patience):
        """Starts `command` and waits until it listens."""
        with open(log, "wb") as out:
            process = subprocess.Popen(["taskset", "-c", str(core)] + command, stdin=subprocess.DEVNULL, stdout=out,
                                       stderr=out, cwd=self.scratch)
        self.running.append(process)
        give_up = time.monotonic() + patience
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return process
            except OSError:
                pass
            if process.poll() is not None or time.monotonic() > give_up:
                self.stop(process)
                with open(log, errors="replace") as text:
                    raise RuntimeError("%s did not start:\n%s" % (command[0], text.read()[-2000:]))
            time.sleep(0.1)

    def stop(self, process):
        if process in self.running:
            self.running.remove(process)
        if process.poll() is None:
            # The gateway would wait for idle connections, which are dead by now; SIGKILL does not.
            process.send_signal(signal.SIGKILL)
        process.wait()

    def close(self):
        for process in list(self.running):
            self.stop(process)

    def start_upstream(self):
        port = free_port()
        self.upstream = "127.0.0.1:%d" % port
        if NGINX:
            command = [NGINX, "-c", self.write("upstream.conf", upstream_conf(self.scratch, port))]
            os.makedirs(os.path.join(self.scratch, "pass"), exist_ok=True)
            with open(os.path.join(self.scratch, BIG.lstrip("/")), "wb") as file:
                file.write(b"x" * BIG_BYTES)
        else:
            command = [BARE, "--listen", self.upstream]
        self.spawn(command, self.load_core, os.path.join(self.scratch, "upstream.log"), port, 20)

    def start(self, peer, under=(), patience=20):
        """Starts a peer, perhaps under a tool that counts its instructions."""
        peer.port = free_port()
        command = peer.configure(self, peer.port)
        log = os.path.join(self.scratch, "peer-%d.log" % peer.port)
        peer.process = self.spawn(list(under) + command, self.proxy_core, log, peer.port, patience)

    def write(self, name, text):
        path = os.path.join(self.scratch, name)
        with open(path, "w") as file:
            file.write(text)
        return path


def peers_for(test):
    """The installed peers of a test; the gateway and its floor come first."""
    limited, strict = nginx_limits("%dr/s" % PLENTY, PLENTY), nginx_limits("1r/m", 0)
    if test == "room":
        return [Peer("tidegate, 404", gateway, NONE), Peer("tidegate, frontier", gateway, FRONTIER),
                Peer("tidegate, status", gateway, STATUS)]
    if test == "refuse":
        peers = [Peer("tidegate", gateway, SHUT)]
        candidates = [(NGINX, "nginx, 3 limits", lambda m, p: nginx(m, p, strict)),
                      (ENVOY, "envoy, 3 limits", lambda m, p: envoy(m, p, 1))]
    else:
        peers = [Peer("bare pingora", bare, PASS), Peer("tidegate, 3 limits", gateway, PASS)]
        if test == "pass":
            peers.append(Peer("tidegate, no limit", gateway, OPEN))
        candidates = [(NGINX, "nginx, 3 limits", lambda m, p: nginx(m, p, limited)),
                      (ENVOY, "envoy, 3 limits", lambda m, p: envoy(m, p, PLENTY))]
    peers += [Peer(name, configure, SHUT if test == "refuse" else PASS)
              for found, name, configure in candidates if found]
    for peer in peers:
        peer.path = BIG if test == "big" else peer.path
    return peers


def missing():
    return [name for name, found in (("nginx", NGINX), ("envoy", ENVOY)) if not found]


def bare(machine, port):
    return [BARE, "--listen", "127.0.0.1:%d" % port, "--upstream", machine.upstream]


def gateway(machine, port):
    """The access log is written as ever, to a file that costs no disk: a slow disk is not the gateway's doing."""
    key = machine.write("room.key", "0f" * 32)
    os.chmod(key, 0o600)
    config = machine.write("tidegate-%d.yaml" % port, GATEWAY_YAML.format(
        port=port, admin=free_port(), scratch=machine.scratch, upstream=machine.upstream, plenty=PLENTY, key=key))
    return [GATEWAY, "run", "--config", config, "--access-log", "/dev/null"]


GATEWAY_YAML = """\
version: 1
server:
  listeners:
    - {{name: public, address: "127.0.0.1:{port}", protocols: [h1]}}
  threads: 1
  data_dir: "{scratch}"
  limits: {{max_connections: 9000, max_connections_per_client: 9000, idle_timeout: 1h}}
admin:
  address: "127.0.0.1:{admin}"
identity:
  user:
    - trusted_header: x-user
      from: ["127.0.0.0/8"]
upstreams:
  orders:
    channels:
      - {{name: orders, endpoints: ["{upstream}"]}}
waiting_rooms:
  - {{name: drop, total_active_users: 1, new_users_per_minute: 1}}
waiting_room_keys: [{{kid: 1, secret_file: "{key}"}}]
filters:
  gate: {{waiting_room: drop}}
  plenty:
    rate_limit:
      policies:
        - {{name: user, key: user, rate: {plenty}/s}}
        - {{name: api, key: route, rate: {plenty}/s}}
        - {{name: system, key: global, rate: {plenty}/s}}
  spent:
    rate_limit:
      policies:
        - {{name: user, key: user, rate: 1/1h}}
        - {{name: api, key: route, rate: {plenty}/s}}
        - {{name: system, key: global, rate: {plenty}/s}}
routes:
  - {{name: pass, match: {{path: "/pass/**"}}, filters: [plenty], upstream: orders}}
  - {{name: open, match: {{path: "/open/**"}}, upstream: orders}}
  - {{name: shut, match: {{path: "/shut/**"}}, filters: [spent], upstream: orders}}
  - {{name: room, match: {{path: "/room/**"}}, filters: [gate], upstream: orders}}
"""


def nginx_conf(scratch, name, http):
    # One process: what is measured is then one process id, as for the others.
    folders = " ".join("%s_temp_path %s/%s-%s;" % (kind, scratch, name, kind)
                       for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return ("daemon off; master_process off; worker_rlimit_nofile 20000;\n"
            "pid %s/%s.pid; error_log %s/%s.log crit;\nevents { worker_connections 15000; }\n"
            "http { access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; %s\n%s }\n"
            % (scratch, name, scratch, name, folders, http))


def upstream_conf(scratch, port):
    answer = '{"order":"o-1","status":"paid"}'
    return nginx_conf(scratch, "upstream", (
        "default_type application/json; sendfile on;\nserver { listen 127.0.0.1:%d backlog=4096;\n"
        "location / { return 200 '%s'; } location = %s { root %s; } }" % (port, answer, BIG, scratch)))


def nginx_limits(user_rate, user_burst):
    tiers = (("user", "$http_x_user", user_rate, user_burst), ("api", "$uri", "%dr/s" % PLENTY, PLENTY),
             ("system", "everyone", "%dr/s" % PLENTY, PLENTY))
    zones = "".join("limit_req_zone %s zone=%s:10m rate=%s;\n" % (key, name, rate) for name, key, rate, _ in tiers)
    uses = "".join("limit_req zone=%s%s; " % (name, " burst=%d nodelay" % burst if burst else "")
                   for name, _, _, burst in tiers)
    return zones + "limit_req_status 429; limit_req_log_level info;", uses


def nginx(machine, port, limits):
    zones, uses = limits
    name = "nginx-%d" % port
    http = ("%s\nupstream orders { server %s; keepalive 1024; keepalive_requests 1000000000; }\n"
            "server { listen 127.0.0.1:%d backlog=4096; location / { %s proxy_http_version 1.1;\n"
            'proxy_set_header Connection ""; proxy_set_header Host $host; proxy_pass http://orders; } }'
            % (zones, machine.upstream, port, uses))
    return [NGINX, "-c", machine.write(name + ".conf", nginx_conf(machine.scratch, name, http))]


def envoy(machine, port, per_user):
    host, upstream = machine.upstream.split(":")
    every = "1s" if per_user == PLENTY else "3600s"
    text = ENVOY_YAML.format(port=port, host=host, upstream=upstream, plenty=PLENTY, per_user=per_user, every=every)
    return [ENVOY, "-c", machine.write("envoy-%d.yaml" % port, text), "--concurrency", "1",
            "--disable-hot-restart", "--log-level", "error"]


# `max_dynamic_descriptors` is above the number of users: below it, envoy would forget buckets and make new, full ones.
ENVOY_YAML = """\
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    tcp_backlog_size: 4096
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: load
          codec_type: HTTP1
          route_config:
            virtual_hosts:
            - name: everything
              domains: ["*"]
              routes:
              - match: {{ prefix: "/" }}
                route:
                  cluster: orders
                  rate_limits:
                  - actions: [ {{ request_headers: {{ header_name: x-user, descriptor_key: user }} }} ]
                  - actions: [ {{ request_headers: {{ header_name: ":path", descriptor_key: api }} }} ]
                  - actions: [ {{ generic_key: {{ descriptor_key: system, descriptor_value: all }} }} ]
          http_filters:
          - name: envoy.filters.http.local_ratelimit
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
              stat_prefix: limits
              max_dynamic_descriptors: 4096
              token_bucket: {{ max_tokens: {plenty}, tokens_per_fill: {plenty}, fill_interval: 1s }}
              filter_enabled: {{ default_value: {{ numerator: 100 }} }}
              filter_enforced: {{ default_value: {{ numerator: 100 }} }}
              descriptors:
              - entries: [ {{ key: user }} ]
                token_bucket: {{ max_tokens: {per_user}, tokens_per_fill: {per_user}, fill_interval: {every} }}
              - entries: [ {{ key: api }} ]
                token_bucket: {{ max_tokens: {plenty}, tokens_per_fill: {plenty}, fill_interval: 1s }}
              - entries: [ {{ key: system, value: all }} ]
                token_bucket: {{ max_tokens: {plenty}, tokens_per_fill: {plenty}, fill_interval: 1s }}
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: orders
    type: STATIC
    circuit_breakers: {{ thresholds: [ {{ max_connections: 4096, max_pending_requests: 4096, max_requests: 4096 }} ] }}
    outlier_detection: {{ consecutive_5xx: 5 }}
    load_assignment:
      cluster_name: orders
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: {host}, port_value: {upstream} }} }} }}
"""
