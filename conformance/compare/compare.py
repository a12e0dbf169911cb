"""Whether koine answers as Synapse does: the same requests to both, good and bad, and every difference told.

usage: compare.py --koine URL --synapse PROGRAM [--verbose]

URL is a koine with open registration; PROGRAM the Python of an environment with Synapse in it, which is started here on a
throw-away folder. Compared are the status, the errcode and which keys the body has. A difference that is meant stands in
explained.tsv, with its reason; one that is not, and one that is explained and gone, make the run fail.

Ends with 0 when all went well, 1 when something differs, 2 when a server could not be used.
"""

import argparse
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

PASSWORD = "correct horse battery staple"
V3, V1 = "/_matrix/client/v3", "/_matrix/client/v1"
EXPLAINED = pathlib.Path(__file__).parent / "explained.tsv"
START_WITHIN_S = 60


class Server:
    """A homeserver with alice, bob and what they made."""

    def __init__(self, url):
        self.url = url.rstrip("/")
        self.names = {}

    def ask(self, method, path, body=None, token=None):
        """Status and JSON of an answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, data=data, method=method)
        request.add_header("Content-Type", "application/json")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as refusal:
            status, text = refusal.code, refusal.read()
        try:
            return status, json.loads(text) if text else None
        except ValueError:
            return status, None

    def register(self, name):
        body = {"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}}
        status, answer = self.ask("POST", V3 + "/register", body)
        if status != 200:
            raise SystemExit(f"{self.url} does not register {name}: {status} {answer}")
        self.names[name] = answer["user_id"]
        self.names[name + ".token"] = answer["access_token"]
        self.names[name + ".device"] = answer["device_id"]

    def made(self, name, key, method, path, body):
        """Makes something as alice and remembers its id."""
        status, answer = self.ask(method, self.fill(path), body, self.names["alice.token"])
        if status != 200:
            raise SystemExit(f"{self.url} does not make {name}: {status} {answer}")
        self.names[name] = answer[key]

    def fill(self, value):
        """What stands in braces, by what it is called on this server."""
        if isinstance(value, dict):
            return {self.fill(key): self.fill(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.fill(inner) for inner in value]
        if not isinstance(value, str):
            return value
        return re.sub(r"\{([a-z.]+)\}", lambda found: self.names.get(found[1], found[0]), value)

    def prepare(self):
        for name in ("alice", "bob"):
            self.register(name)
        self.names["server"] = self.names["alice"].split(":", 1)[1]
        self.made("room", "room_id", "POST", V3 + "/createRoom", {"preset": "public_chat", "name": "Room"})
        self.made("private", "room_id", "POST", V3 + "/createRoom", {"preset": "private_chat"})
        self.made("event", "event_id", "PUT", V3 + "/rooms/{room}/send/m.room.message/one", {"msgtype": "m.text", "body": "x"})
        self.made("secret", "event_id", "PUT", V3 + "/rooms/{private}/send/m.room.message/one", {"msgtype": "m.text", "body": "x"})
        self.made("filter", "filter_id", "POST", V3 + "/user/{alice}/filter", {})


def cases():
    """Name, method, path, body and whose token; the name is the method and the path, and what is wrong with them."""
    found = []

    def case(method, path, body=None, who="alice", note=""):
        name = f"{method} {path}" + (f" [{note}]" if note else "") + ("" if who == "alice" else f" as {who}")
        found.append((name, method, path, body, who))

    room, private = V3 + "/rooms/{room}", V3 + "/rooms/{private}"
    reads = [
        V3 + "/account/whoami", V3 + "/account/3pid", V3 + "/capabilities", V3 + "/devices", V3 + "/joined_rooms",
        V3 + "/pushers", V3 + "/pushrules/", V3 + "/pushrules/global/", V3 + "/pushrules/global/override/.m.rule.master",
        V3 + "/pushrules/global/override/.m.rule.master/enabled", V3 + "/pushrules/global/override/.m.rule.master/actions",
        V3 + "/pushrules/global/override/nothing", V3 + "/pushrules/global/dance/x", V3 + "/sync?timeout=0", V3 + "/voip/turnServer",
        V3 + "/thirdparty/protocols", V3 + "/room_keys/version", V3 + "/room_keys/version/99", V3 + "/room_keys/keys?version=1",
        V3 + "/keys/changes?from=x&to=y", V3 + "/presence/{alice}/status", V3 + "/presence/@nobody:{server}/status",
        V3 + "/profile/{bob}", V3 + "/profile/{bob}/displayname", V3 + "/profile/{bob}/avatar_url", V3 + "/profile/@nobody:{server}",
        V3 + "/profile/nonsense", V3 + "/devices/{alice.device}", V3 + "/devices/NOTHING", V3 + "/user/{alice}/filter/{filter}",
        V3 + "/user/{alice}/filter/999", V3 + "/user/{bob}/filter/0", V3 + "/user/{alice}/account_data/m.direct",
        V3 + "/user/{bob}/account_data/m.direct", V3 + "/user/{alice}/rooms/{room}/account_data/x", V3 + "/user/{alice}/rooms/{room}/tags",
        V3 + "/user/{bob}/rooms/{room}/tags", V3 + "/publicRooms", V3 + "/publicRooms?limit=x", V3 + "/publicRooms?limit=-1",
        V3 + "/directory/room/%23nothing:{server}", V3 + "/directory/room/nonsense", V3 + "/directory/list/room/{room}",
        V3 + "/directory/list/room/!nothing:{server}", V3 + "/sync?since=nonsense", V3 + "/sync?filter=999", V3 + "/sync?filter=%7B",
        V3 + "/sync?timeout=x", V3 + "/notifications", V3 + "/events?timeout=0", V3 + "/initialSync?limit=1", V3 + "/admin/whois/{alice}",
        V3 + "/admin/whois/{bob}", V1 + "/media/config", V1 + "/room_summary/{room}", V1 + "/room_summary/!nothing:{server}",
        V1 + "/rooms/{room}/hierarchy", V1 + "/rooms/{room}/threads", V1 + "/rooms/{room}/relations/{event}",
        V1 + "/rooms/{room}/relations/{event}/m.thread", V1 + "/rooms/{room}/relations/$nothing", V3 + "/nothing",
        V1 + "/rooms/{room}/timestamp_to_event?ts=0&dir=f", V1 + "/rooms/{room}/timestamp_to_event?ts=x&dir=f",
        V1 + "/rooms/{room}/timestamp_to_event?ts=0", "/_matrix/client/versions", "/_matrix/client/unstable/nothing", "/_matrix/nothing",
        V3 + "/login", V3 + "/register/available?username=free", V3 + "/register/available?username=alice",
        V3 + "/register/available?username=%C3%A4", V1 + "/register/m.login.registration_token/validity?token=x",
        V1 + "/media/download/{server}/nothing", V1 + "/media/thumbnail/{server}/nothing?width=1&height=1",
        V1 + "/media/thumbnail/{server}/nothing", "/_matrix/media/v3/config",
    ]
    for base in (room, private, V3 + "/rooms/!nothing:{server}"):
        reads += [base + tail for tail in (
            "/state", "/state/m.room.name", "/state/m.room.topic", "/state/m.room.member/{alice}", "/members", "/members?membership=x",
            "/members?at=x", "/joined_members", "/messages?dir=b", "/messages?dir=x", "/messages", "/messages?dir=b&from=nonsense",
            "/messages?dir=b&limit=x", "/messages?dir=b&filter=x", "/event/{event}", "/event/{secret}", "/event/nonsense",
            "/context/{event}", "/context/{secret}", "/context/$nothing", "/aliases", "/initialSync")]
    for path in reads:
        for who in ("alice", "bob", "nobody"):
            case("GET", path, who=who)
    case("GET", V3 + "/account/whoami", who="stranger")

    # What is wrong with a body is wrong with every body.
    writes = [
        ("POST", V3 + "/createRoom"), ("POST", room + "/join"), ("POST", room + "/invite"), ("POST", room + "/kick"),
        ("POST", room + "/ban"), ("POST", room + "/unban"), ("POST", V3 + "/join/nonsense"), ("POST", V3 + "/knock/{room}"),
        ("PUT", room + "/send/m.room.message/bad"), ("PUT", room + "/state/m.room.topic/"), ("PUT", room + "/typing/{alice}"),
        ("PUT", room + "/typing/{bob}"), ("POST", room + "/receipt/m.read/{event}"), ("POST", room + "/receipt/dance/{event}"),
        ("POST", room + "/read_markers"), ("PUT", room + "/redact/$nothing/t"), ("POST", room + "/upgrade"), ("POST", room + "/report/{event}"),
        ("POST", room + "/report/$nothing"), ("POST", room + "/report"), ("POST", V3 + "/rooms/!nothing:{server}/leave"),
        ("POST", V3 + "/rooms/!nothing:{server}/forget"), ("POST", room + "/forget"), ("PUT", V3 + "/profile/{alice}/displayname"),
        ("PUT", V3 + "/profile/{alice}/avatar_url"), ("PUT", V3 + "/profile/{bob}/displayname"), ("PUT", V3 + "/presence/{alice}/status"),
        ("PUT", V3 + "/presence/{bob}/status"), ("PUT", V3 + "/user/{alice}/account_data/x"), ("PUT", V3 + "/user/{bob}/account_data/x"),
        ("PUT", V3 + "/user/{alice}/account_data/m.push_rules"), ("PUT", V3 + "/user/{alice}/rooms/{room}/account_data/x"),
        ("PUT", V3 + "/user/{alice}/rooms/{room}/tags/u.x"), ("DELETE", V3 + "/user/{alice}/rooms/{room}/tags/u.x"),
        ("POST", V3 + "/user/{alice}/filter"), ("POST", V3 + "/user/{bob}/filter"), ("PUT", V3 + "/devices/{alice.device}"),
        ("PUT", V3 + "/devices/NOTHING"), ("DELETE", V3 + "/devices/{alice.device}"), ("POST", V3 + "/delete_devices"),
        ("POST", V3 + "/keys/upload"), ("POST", V3 + "/keys/query"), ("POST", V3 + "/keys/claim"), ("POST", V3 + "/keys/device_signing/upload"),
        ("POST", V3 + "/keys/signatures/upload"), ("POST", V3 + "/room_keys/version"), ("PUT", V3 + "/room_keys/version/99"),
        ("PUT", V3 + "/room_keys/keys?version=99"), ("DELETE", V3 + "/room_keys/version/99"), ("PUT", V3 + "/sendToDevice/x/t"),
        ("PUT", V3 + "/directory/room/%23new:{server}"), ("PUT", V3 + "/directory/room/%23new:elsewhere.org"),
        ("DELETE", V3 + "/directory/room/%23nothing:{server}"), ("PUT", V3 + "/directory/list/room/{room}"), ("POST", V3 + "/publicRooms"),
        ("POST", V3 + "/user_directory/search"), ("POST", V3 + "/search"), ("POST", V3 + "/pushers/set"),
        ("PUT", V3 + "/pushrules/global/override/mine"), ("PUT", V3 + "/pushrules/global/override/.m.rule.x"),
        ("PUT", V3 + "/pushrules/global/override/.m.rule.master/enabled"), ("DELETE", V3 + "/pushrules/global/override/nothing"),
        ("POST", V3 + "/login"), ("POST", V3 + "/register"), ("POST", V3 + "/refresh"), ("POST", V3 + "/account/password"),
        ("POST", V3 + "/account/deactivate"), ("POST", V3 + "/user/{alice}/openid/request_token"), ("POST", V3 + "/user/{bob}/openid/request_token"),
    ]
    for method, path in writes:
        if not path.endswith(("/createRoom", "/upgrade", "/deactivate")):
            case(method, path, {}, note="empty object")
        case(method, path, [], note="list")
        case(method, path, b"{torn", note="no JSON")
        case(method, path, {}, who="nobody")
    case("POST", V3 + "/login", {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "alice"}, "password": "x"}, note="wrong password")
    case("POST", V3 + "/login", {"type": "m.login.dance"}, note="unknown type")
    case("POST", V3 + "/register", {"username": "alice", "password": "x", "auth": {"type": "m.login.dummy"}}, note="taken")
    case("POST", V3 + "/register", {"username": "Ä", "password": "x", "auth": {"type": "m.login.dummy"}}, note="bad name")
    case("POST", V3 + "/createRoom", {"room_version": "nonsense"}, note="unknown version")
    case("POST", V3 + "/createRoom", {"preset": "dance"}, note="unknown preset")
    case("POST", V3 + "/createRoom", {"invite": "x"}, note="invite is text")
    case("POST", room + "/invite", {"user_id": "nonsense"}, note="nonsense")
    case("POST", room + "/invite", {"user_id": "{alice}"}, note="already there")
    case("POST", room + "/kick", {"user_id": "{bob}"}, note="not there")
    case("POST", private + "/join", {}, who="bob")
    case("PUT", room + "/send/m.room.message/t", {"body": "x"}, who="bob", note="outside")
    case("PUT", room + "/state/m.room.name/", {"name": "x"}, who="bob", note="outside")
    case("PUT", room + "/state/m.room.power_levels/", {"users": "x"}, note="broken levels")
    case("PUT", room + "/state/m.room.canonical_alias/", {"alias": "#nothing:{server}"}, note="alias of nothing")
    case("PUT", V3 + "/presence/{alice}/status", {"presence": "dancing"}, note="unknown")
    case("PUT", V3 + "/profile/{alice}/displayname", {"displayname": "Alice"})
    case("PUT", V3 + "/profile/{alice}/displayname", {"displayname": 5}, note="number")
    case("PUT", V3 + "/directory/room/%23new:{server}", {"room_id": "{room}"})
    case("PUT", V3 + "/directory/room/%23new:{server}", {"room_id": "{room}"}, note="again")
    case("GET", V3 + "/directory/room/%23new:{server}")
    case("DELETE", V3 + "/directory/room/%23new:{server}", who="bob")
    case("POST", V3 + "/keys/query", {"device_keys": {"{alice}": []}})
    case("POST", V3 + "/keys/query", {"device_keys": {"{alice}": "x"}}, note="text")
    case("PATCH", V3 + "/sync", {}, note="no such method")
    case("POST", V3 + "/logout", {}, who="bob")
    return found


def shape(status, body):
    """What is compared of an answer, as text: the status, then the errcode, or else the keys of the body."""
    if not isinstance(body, dict):
        return f"{status} {type(body).__name__}"
    return f"{status} {body.get('errcode') or ' '.join(sorted(body))}".strip()


def start_synapse(python, folder, port):
    """A Synapse on loopback, in the foreground of a process of ours."""
    config = {
        "server_name": f"localhost:{port}",
        "report_stats": False,
        "pid_file": f"{folder}/pid",
        "listeners": [{"port": port, "type": "http", "bind_addresses": ["127.0.0.1"], "resources": [{"names": ["client"]}]}],
        "database": {"name": "sqlite3", "args": {"database": f"{folder}/db"}},
        "media_store_path": f"{folder}/media",
        "signing_key_path": f"{folder}/key",
        "macaroon_secret_key": "x",
        "form_secret": "x",
        "enable_registration": True,
        "enable_registration_without_verification": True,
        "bcrypt_rounds": 4,
        "trusted_key_servers": [],
        "rc_message": {"per_second": 9999, "burst_count": 9999},
        "rc_registration": {"per_second": 9999, "burst_count": 9999},
        "rc_login": {kind: {"per_second": 9999, "burst_count": 9999} for kind in ("address", "account", "failed_attempts")},
        "rc_joins": {kind: {"per_second": 9999, "burst_count": 9999} for kind in ("local", "remote")},
        "rc_room_creation": {"per_second": 9999, "burst_count": 9999},
        "rc_presence": {"per_user": {"per_second": 9999, "burst_count": 9999}},
        "rc_reports": {"per_second": 9999, "burst_count": 9999},
    }
    path = os.path.join(folder, "homeserver.yaml")
    with open(path, "w") as file:
        json.dump(config, file)  # YAML too.
    log = open(os.path.join(folder, "log"), "w")
    run = [python, "-m", "synapse.app.homeserver", "-c", path]
    subprocess.run([*run, "--generate-keys"], check=True, stdout=log, stderr=log, cwd=folder)
    return subprocess.Popen(run, stdout=log, stderr=log, cwd=folder)


def wait_for(server):
    """Until a server answers."""
    until = time.monotonic() + START_WITHIN_S
    while time.monotonic() < until:
        try:
            if server.ask("GET", "/_matrix/client/versions")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"{server.url} does not answer within {START_WITHIN_S} s")


def explained():
    """Differences that are meant: case, koine's answer, Synapse's, reason. In the first three * stands for any text."""
    rows = [line.split("\t") for line in EXPLAINED.read_text().splitlines() if line and not line.startswith("#")]
    def pattern(text):
        return re.compile(".*".join(re.escape(part) for part in text.split("*")))

    return [([pattern(text) for text in row[:3]], row) for row in rows]


def compare(koine, synapse, verbose):
    meant = explained()
    used, wrong, alike = set(), 0, 0
    for name, method, path, body, who in cases():
        seen = [name]
        for server in (koine, synapse):
            token = {"nobody": None, "stranger": "nonsense"}.get(who, server.names.get(who + ".token"))
            seen.append(shape(*server.ask(method, server.fill(path), server.fill(body), token)))
        if seen[1] == seen[2]:
            alike += 1
            continue
        reasons = [number for number, (patterns, _) in enumerate(meant) if all(map(re.Pattern.fullmatch, patterns, seen))]
        used.update(reasons[:1])
        if not reasons or verbose:
            wrong += not reasons
            reason = meant[reasons[0]][1][3] if reasons else "DIFFERS"
            print(f"{reason}: {name}\n    koine   {seen[1]}\n    synapse {seen[2]}")
    for number, (_, row) in enumerate(meant):
        if number not in used:
            wrong += 1
            print("explained, and no difference any more:", " | ".join(row))
    print(f"{alike} answers alike, {len(used)} explanations used, {wrong} to look at")
    return not wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--koine", required=True)
    parser.add_argument("--synapse", required=True)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        process = start_synapse(options.synapse, folder, port)
        try:
            servers = Server(options.koine), Server(f"http://127.0.0.1:{port}")
            for server in servers:
                wait_for(server)
                server.prepare()
            return 0 if compare(*servers, options.verbose) else 1
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


if __name__ == "__main__":
    sys.exit(main())
