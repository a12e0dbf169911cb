"""Two Koine servers and two Synapse servers on loopback addresses of their own, with certificates of one authority.

Each server is called by its address and port, so that nobody needs DNS: the name says where it is, and the certificate is for
that address. Everything lies in one folder and ends with `Servers.stop`.
"""

import datetime
import http.client
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

READY_WITHIN_S = 90
ENDS_WITHIN_S = 10
CLIENT_PORT = 8008


class Server:
    """One server: `name` is what stands behind the colon of its ids."""

    def __init__(self, folder, kind, address, port):
        self.folder, self.kind, self.address, self.port = folder, kind, address, port
        self.name = f"{address}:{port}"
        self.process = None
        os.makedirs(folder)

    @property
    def log(self):
        return os.path.join(self.folder, "server.log")

    def begin(self, command, environment=None):
        with open(self.log, "ab") as log:
            environment = {**os.environ, **(environment or {})}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, env=environment)

    def await_ready(self):
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.kind} ended before it was ready ({self.process.returncode}); see {self.log}")
            try:
                connection = http.client.HTTPConnection(self.address, CLIENT_PORT, timeout=5)
                connection.request("GET", "/_matrix/client/versions")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise RuntimeError(f"{self.kind} is not ready after {READY_WITHIN_S} s; see {self.log}")

    def end(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Authority:
    """Signs the servers' certificates."""

    def __init__(self, folder):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of the walk")])
        certificate = self.builder(self.name, self.key).add_extension(x509.BasicConstraints(True, 0), critical=True)
        self.file = os.path.join(folder, "authority.pem")
        write_pem(self.file, certificate.sign(self.key, hashes.SHA256()))

    def builder(self, subject, key):
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))

    def certify(self, folder, address):
        """Files with the certificate for this address, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        certificate = self.builder(subject, key).add_extension(names, critical=False).sign(self.key, hashes.SHA256())
        files = os.path.join(folder, "server.crt"), os.path.join(folder, "server.key")
        write_pem(files[0], certificate)
        with open(files[1], "wb") as out:
            unprotected = serialization.NoEncryption()
            out.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, unprotected))
        return files


def write_pem(file, certificate):
    with open(file, "wb") as out:
        out.write(certificate.public_bytes(serialization.Encoding.PEM))


class Servers:
    """All four of them."""

    def __init__(self, folder, koine):
        self.authority = Authority(folder)
        net = 1 + os.getpid() % 250
        kinds = ("koine", "koine", "synapse", "synapse")
        self.all = []
        for number, kind in enumerate(kinds, start=1):
            address = f"127.{net}.7.{number}"
            self.all.append(Server(os.path.join(folder, f"{kind}{number}"), kind, address, free_port(address)))
        self.koines, self.synapses = self.all[:2], self.all[2:]
        self.koine = koine

    def start(self):
        for server in self.all:
            begin = self.begin_koine if server.kind == "koine" else self.begin_synapse
            begin(server, *self.authority.certify(server.folder, server.address))
        for server in self.all:
            server.await_ready()

    def stop(self):
        for server in self.all:
            server.end()

    def begin_koine(self, server, certificate, key):
        path = os.path.join(server.folder, "koine.toml")
        with open(path, "w", encoding="utf-8") as out:
            out.write(KOINE.format(server=server, client=CLIENT_PORT, certificate=certificate, key=key, authority=self.authority.file))
        server.begin([self.koine, "serve", "--config", path], {"KOINE_LOG": os.environ.get("KOINE_LOG", "info,koine_matrix_federation=debug")})

    def begin_synapse(self, server, certificate, key):
        path = os.path.join(server.folder, "homeserver.yaml")
        with open(path, "w", encoding="utf-8") as out:
            out.write(SYNAPSE.format(server=server, client=CLIENT_PORT, certificate=certificate, key=key, authority=self.authority.file))
        with open(os.path.join(server.folder, "log.yaml"), "w", encoding="utf-8") as out:
            out.write(SYNAPSE_LOG)
        program = [sys.executable, "-m", "synapse.app.homeserver", "--config-path", path]
        subprocess.run([*program, "--generate-keys"], check=True, cwd=server.folder)
        server.begin(program)


def free_port(address):
    with socket.socket() as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


KOINE = """\
server_name = "{server.name}"
data_dir = "{server.folder}/data"

[accounts]
registration = "open"

[accounts.limits.registration]
burst = 1000
per_second = 1000.0

[accounts.limits.message]
burst = 10000
per_second = 10000.0

[federation.network]
allow_ranges = ["127.0.0.0/8"]
extra_authorities = "{authority}"

[tls]
certificate = "{certificate}"
key = "{key}"

[metrics]
enabled = false

[[listeners]]
address = "{server.address}:{client}"

[[listeners]]
address = "{server.address}:{server.port}"
tls = true
"""

SYNAPSE = """\
server_name: "{server.name}"
report_stats: false
pid_file: "{server.folder}/pid"
listeners:
  - {{port: {client}, type: http, bind_addresses: ["{server.address}"], resources: [{{names: [client]}}]}}
  - {{port: {server.port}, type: http, tls: true, bind_addresses: ["{server.address}"], resources: [{{names: [federation]}}]}}
tls_certificate_path: "{certificate}"
tls_private_key_path: "{key}"
federation_custom_ca_list: ["{authority}"]
ip_range_blacklist: []
federation_ip_range_blacklist: []
allow_public_rooms_over_federation: true
room_list_publication_rules: [{{action: allow}}]
allow_public_rooms_without_auth: true
database: {{name: sqlite3, args: {{database: "{server.folder}/db"}}}}
media_store_path: "{server.folder}/media"
signing_key_path: "{server.folder}/key"
log_config: "{server.folder}/log.yaml"
macaroon_secret_key: "x"
form_secret: "x"
enable_registration: true
enable_registration_without_verification: true
bcrypt_rounds: 4
trusted_key_servers: []
rc_message: {{per_second: 9999, burst_count: 9999}}
rc_registration: {{per_second: 9999, burst_count: 9999}}
rc_login:
  address: {{per_second: 9999, burst_count: 9999}}
  account: {{per_second: 9999, burst_count: 9999}}
  failed_attempts: {{per_second: 9999, burst_count: 9999}}
rc_joins:
  local: {{per_second: 9999, burst_count: 9999}}
  remote: {{per_second: 9999, burst_count: 9999}}
rc_joins_per_room: {{per_second: 9999, burst_count: 9999}}
rc_invites:
  per_room: {{per_second: 9999, burst_count: 9999}}
  per_user: {{per_second: 9999, burst_count: 9999}}
  per_issuer: {{per_second: 9999, burst_count: 9999}}
rc_federation: {{window_size: 1000, sleep_limit: 9999, sleep_delay: 1, reject_limit: 9999, concurrent: 50}}
rc_room_creation: {{per_second: 9999, burst_count: 9999}}
rc_media_create: {{per_second: 9999, burst_count: 9999}}
"""

SYNAPSE_LOG = """\
version: 1
formatters: {plain: {format: "%(asctime)s %(levelname)s %(name)s %(request)s %(message)s"}}
filters: {context: {(): synapse.logging.context.LoggingContextFilter, request: ""}}
handlers: {console: {class: logging.StreamHandler, formatter: plain, filters: [context]}}
root: {level: INFO, handlers: [console]}
disable_existing_loggers: false
"""
