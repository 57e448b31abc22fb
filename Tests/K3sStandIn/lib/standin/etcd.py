"""The embedded etcd: a real one as a child process, spoken to over its JSON gateway."""
import base64, ctypes, http.client, json, os, signal, sqlite3, ssl, subprocess, threading, time

from .config import Failure
from .secrets import issue, write


def b64(text):
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Etcd:
    def __init__(self, data, address):
        self.data, self.address = data + "/server/db/etcd", address
        self.tls = data + "/server/tls"
        self.others = []
        self.process = None

    @property
    def wal(self):
        return self.data + "/member/wal"

    @property
    def is_initialized(self):
        return os.path.isdir(self.wal)

    def name(self, node_name):
        """The member's name, kept: the node's with eight random digits."""
        path = self.data + "/name"
        if not os.path.exists(path):
            write(path, "%s-%s" % (node_name, os.urandom(4).hex()))
        with open(path) as file:
            return file.read()

    def certificates(self):
        for kind, names in [("server-client", True), ("peer-server-client", True),
                            ("client", False)]:
            if os.path.exists("%s/etcd/%s.crt" % (self.tls, kind)):
                continue
            authority = "peer-ca" if kind.startswith("peer") else "server-ca"
            key, certificate = issue(
                self.tls + "/etcd/" + authority, "/CN=etcd-" + kind,
                ["IP:127.0.0.1", "IP:" + self.address, "DNS:localhost"] if names else [])
            write("%s/etcd/%s.key" % (self.tls, kind), key)
            write("%s/etcd/%s.crt" % (self.tls, kind), certificate)

    def start(self, name, cluster, state):
        self.certificates()
        tls = self.tls + "/etcd/"
        security = (
            "  cert-file: {0}{1}.crt\n  key-file: {0}{1}.key\n"
            "  client-cert-auth: true\n  trusted-ca-file: {0}{2}.crt\n")
        write(self.data + "/config", (
            "name: %s\ndata-dir: %s\nlisten-peer-urls: https://%s:2380\n"
            "listen-client-urls: https://127.0.0.1:2379,https://%s:2379\n"
            "initial-advertise-peer-urls: https://%s:2380\n"
            "advertise-client-urls: https://%s:2379\ninitial-cluster: %s\n"
            "initial-cluster-state: %s\nheartbeat-interval: 500\nelection-timeout: 5000\n"
            "enable-grpc-gateway: true\nlogger: zap\nlog-outputs: [stderr]\n"
            % (name, self.data, self.address, self.address, self.address, self.address,
               cluster, state))
            + "client-transport-security:\n" + security.format(tls, "server-client", "server-ca")
            + "peer-transport-security:\n" + security.format(tls, "peer-server-client", "peer-ca"))
        self.log = open(self.data + "/log", "ab")
        self.process = subprocess.Popen(
            ["etcd", "--config-file", self.data + "/config"], stdout=self.log, stderr=self.log,
            stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(8)
            except subprocess.TimeoutExpired:
                self.process.kill()

    def was_removed(self):
        with open(self.data + "/log", "rb") as file:
            file.seek(max(0, os.path.getsize(self.data + "/log") - 20000))
            text = file.read()
        return b"the member has been permanently removed" in text or b"was removed" in text

    # The client side.

    def context(self):
        context = ssl.create_default_context(cafile=self.tls + "/etcd/server-ca.crt")
        context.check_hostname = False
        context.load_cert_chain(
            self.tls + "/etcd/client.crt", self.tls + "/etcd/client.key")
        return context

    def call(self, path, body, limit=5):
        problem = "no endpoint"
        for host in ["127.0.0.1"] + self.others:
            link = http.client.HTTPSConnection(host, 2379, context=self.context(), timeout=limit)
            try:
                link.request("POST", "/v3" + path, json.dumps(body))
                answer = json.loads(link.getresponse().read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                problem = str(error)
                continue
            finally:
                link.close()
            if "error" not in answer:
                return answer
            problem = answer["error"]
            if "learner" not in problem or "too many" in problem or "can only" in problem:
                break
        raise Failure(problem)

    def get(self, key):
        found = self.call("/kv/range", {"key": b64(key)}).get("kvs", [])
        return base64.b64decode(found[0].get("value", "")).decode() if found else None

    def list(self, prefix):
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        found = self.call("/kv/range", {"key": b64(prefix), "range_end": b64(end)})
        return {base64.b64decode(item["key"]).decode(): base64.b64decode(
            item.get("value", "")).decode() for item in found.get("kvs", [])}

    def put(self, key, value):
        self.call("/kv/put", {"key": b64(key), "value": b64(value)})

    def create(self, key, value):
        """Whether the key was new."""
        answer = self.call("/kv/txn", {
            "compare": [{"key": b64(key), "target": "VERSION", "version": "0"}],
            "success": [{"requestPut": {"key": b64(key), "value": b64(value)}}]})
        return bool(answer.get("succeeded"))

    def delete(self, key):
        return int(self.call("/kv/deleterange", {"key": b64(key)}).get("deleted", 0)) > 0

    def members(self):
        return self.call("/cluster/member/list", {}).get("members", [])

    def learn_members(self):
        """Remembers where the others are, and whether this member votes."""
        members = self.members()
        mine = [m for m in members if address(m) == self.address]
        self.others = [
            address(m) for m in members if address(m) != self.address and not m.get("isLearner")]
        return bool(mine) and not mine[0].get("isLearner", False)

    def is_leader(self):
        status = self.call("/maintenance/status", {}, limit=3)
        return status.get("leader") == status["header"]["member_id"]

    def remove_member(self, node_address):
        for member in self.members():
            if address(member) == node_address:
                self.call("/cluster/member/remove", {"ID": member["ID"]})

    def promote_learners(self):
        for member in self.members():
            if member.get("isLearner") and member.get("name"):
                self.call("/cluster/member/promote", {"ID": member["ID"]})

    def wait(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise Failure("etcd ended")
            try:
                return self.get("/ready")
            except Failure:
                time.sleep(0.3)
        raise Failure("etcd does not answer")


def address(member):
    return member["peerURLs"][0].split("//")[1].rsplit(":", 1)[0]


class SQLite:
    """What a bare `k3s server` keeps, in one file."""

    def __init__(self, path):
        self.path = path
        self.lock = threading.Lock()
        self.link = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self.run("CREATE TABLE IF NOT EXISTS kine (name TEXT PRIMARY KEY, value TEXT)")

    def run(self, text, *values):
        with self.lock:
            done = self.link.execute(text, values)
            return done.rowcount, done.fetchall()

    def get(self, key):
        found = self.run("SELECT value FROM kine WHERE name = ?", key)[1]
        return found[0][0] if found else None

    def list(self, prefix):
        return dict(self.run("SELECT name, value FROM kine WHERE substr(name, 1, ?) = ?",
                             len(prefix), prefix)[1])

    def put(self, key, value):
        self.run("INSERT INTO kine VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = ?",
                 key, value, value)

    def create(self, key, value):
        return self.run("INSERT INTO kine VALUES (?, ?) ON CONFLICT DO NOTHING", key, value)[0] > 0

    def delete(self, key):
        return self.run("DELETE FROM kine WHERE name = ?", key)[0] > 0

    def members(self):
        return []

    def migrate(self, store):
        """`--cluster-init` over a database of the one-server kind: everything moves, once."""
        for key, value in self.list("").items():
            store.put(key, value)
        self.link.close()
        os.rename(self.path, self.path + ".migrated")
