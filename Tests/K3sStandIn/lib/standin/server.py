"""`k3s server`, as its decision table starts it."""
import base64, hashlib, json, os, shutil, signal, socket, subprocess, threading, time

from .agent import Agent
from .api import API
from .client import Remote, validated
from .config import CRITICAL, Failure
from .etcd import Etcd, SQLite, address
from .secrets import (Token, authorities, ca_hash, issue, pack, read, store_bootstrap, unpack,
                      write)

# How often the leader looks for learners to promote (15 s in K3s).
PROMOTION = 4

LEARNER = "this server has not yet been promoted from learner to voting member"


class Server:
    def __init__(self, options):
        self.options = options
        self.root = options.data + "/server"
        self.tls = self.root + "/tls"
        self.sqlite = self.root + "/db/state.db"
        self.address = options.text("advertise-address") or options.node_ip
        self.store = None
        self.is_ready = False
        self.is_voter = True

    def run(self):
        options = self.options
        etcd = Etcd(options.data, options.node_ip)
        tombstone = etcd.data + "/tombstone"
        if os.path.exists(tombstone):
            os.rename(etcd.data, "%s-backup-%d" % (etcd.data, time.time()))
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        url = options.text("server")
        if options.flag("cluster-reset"):
            return self.reset(etcd)
        if etcd.is_initialized:
            say("Managed etcd cluster bootstrap already complete and initialized")
            self.token_secrets()
            etcd.start(self.member_name(etcd), "unused=https://%s:2380" % options.node_ip, "new")
            self.store = etcd
        elif url:
            self.join(etcd, url)
        elif options.flag("cluster-init"):
            self.token_secrets(mint=True)
            authorities(self.tls)
            name = self.member_name(etcd)
            say("Managed etcd cluster initializing")
            etcd.start(name, "%s=https://%s:2380" % (name, options.node_ip), "new")
            self.store = etcd
        else:
            self.token_secrets(mint=True)
            authorities(self.tls)
            os.makedirs(self.root + "/db", mode=0o700, exist_ok=True)
            self.store = SQLite(self.sqlite)
        self.serve(etcd)

    def member_name(self, etcd):
        return etcd.name(self.options.node_name)

    def token_secrets(self, mint=False):
        given = self.options.secret("token")
        saved = self.root + "/cred-passphrase"
        if given:
            self.server_token = Token(given).password
        elif os.path.exists(saved):
            self.server_token = read(saved).decode()
        elif mint:
            self.server_token = os.urandom(16).hex()
        else:
            raise Failure("--token is required to join a cluster")
        if mint and given.startswith("K10"):
            raise Failure("token is not in the short form, and there is no custom CA")
        write(saved, self.server_token)
        agent = self.options.secret("agent-token")
        self.agent_token = Token(agent, "node").password if agent else self.server_token

    def join(self, etcd, url):
        self.token_secrets()
        token = Token(self.options.secret("token"))
        token.user = "server"
        ca = validated(url, token)
        remote = Remote(url, ca, token.header)
        files = json.loads(remote.need("GET", "/v1-k3s/server-bootstrap"))
        theirs = json.loads(remote.need("GET", "/v1-k3s/config"))
        mine = self.options.critical()
        wrong = [key for key in CRITICAL if theirs.get(key) != mine.get(key)]
        if wrong:
            raise Failure("critical configuration value mismatch between servers: "
                          + ", ".join(wrong))
        store_bootstrap(self.tls, files)
        etcd.certificates()
        members = json.loads(remote.need("GET", "/db/info"))["members"]
        etcd.others = [address(member) for member in members if not member.get("isLearner")]
        name = self.member_name(etcd)
        peer = "https://%s:2380" % self.options.node_ip
        end = time.monotonic() + 120
        while True:
            try:
                known = [m for m in etcd.members() if address(m) == self.options.node_ip]
                for stale in known:
                    etcd.call("/cluster/member/remove", {"ID": stale["ID"]})
                etcd.call("/cluster/member/add", {"peerURLs": [peer], "isLearner": True})
                break
            except Failure as failure:
                say("Failed to add this server as a learner: %s" % failure)
                if time.monotonic() > end:
                    raise
                time.sleep(2)
        peers = ["%s=https://%s:2380" % (m["name"], address(m)) for m in members if m.get("name")]
        say("Adding member %s=%s to etcd cluster" % (name, peer))
        say(LEARNER)
        etcd.start(name, ",".join(peers + ["%s=%s" % (name, peer)]), "existing")
        self.store = etcd

    def serve(self, etcd):
        options = self.options
        key, certificate = issue(
            self.tls + "/server-ca", "/CN=k3s",
            ["IP:127.0.0.1", "IP:" + options.node_ip, "IP:" + self.address, "IP:10.43.0.1",
             "DNS:localhost", "DNS:kubernetes", "DNS:kubernetes.default.svc"]
            + [("IP:" if name.replace(".", "").isdigit() or ":" in name else "DNS:") + name
               for name in options.list("tls-san")])
        write(self.tls + "/serving.key", key)
        write(self.tls + "/serving.crt", certificate)
        self.files()
        API(self)
        if self.store is etcd:
            etcd.wait(3600)
            if os.path.exists(self.sqlite):
                SQLite(self.sqlite).migrate(etcd)
        self.keep_bootstrap()
        threading.Thread(target=self.tend, args=(etcd,), daemon=True).start()
        agent = Agent(options, server=self)
        if not options.flag("disable-agent"):
            threading.Thread(target=agent.run, daemon=True).start()
        self.is_ready = True
        notify("READY=1")
        say("k3s is up and running")
        signal.signal(signal.SIGTERM, lambda *_: self.end(etcd))
        while self.store is not etcd or etcd.process.poll() is None:
            time.sleep(0.5)
        if etcd.was_removed():
            write(etcd.data + "/tombstone", "")
            say("this node has been removed from the cluster please restart k3s to rejoin the "
                "cluster")
        raise Failure("etcd ended")

    def end(self, etcd):
        etcd.stop()
        os._exit(0)

    def files(self):
        digest = ca_hash(read(self.tls + "/server-ca.crt"))
        server = "K10%s::server:%s\n" % (digest, self.server_token)
        agent = "K10%s::node:%s\n" % (digest, self.agent_token)
        write(self.root + "/token", server)
        write(self.root + "/node-token", server)
        write(self.root + "/agent-token", agent if self.options.secret("agent-token") else server)
        key, certificate = issue(
            self.tls + "/client-ca", "/O=system:masters/CN=system:admin")
        write(self.options.kubeconfig, kubeconfig(
            "https://127.0.0.1:6443", read(self.tls + "/server-ca.crt"), certificate, key))

    def keep_bootstrap(self):
        place = "/bootstrap/" + hashlib.sha256(self.server_token.encode()).hexdigest()[:12]
        kept = self.store.list("/bootstrap/")
        if kept and place not in kept:
            raise Failure("bootstrap data already found and encrypted with different token")
        if kept:
            unpack(kept[place], self.server_token)
        else:
            self.store.put(place, pack(self.tls, self.server_token))

    def tend(self, etcd):
        """Promotes learners while this member leads."""
        while self.store is etcd:
            try:
                self.is_voter = etcd.learn_members()
                if self.is_voter and etcd.is_leader():
                    etcd.promote_learners()
                elif not self.is_voter:
                    say(LEARNER)
            except Failure as failure:
                say(str(failure))
            time.sleep(PROMOTION)

    def api_servers(self):
        voters = [address(m) for m in self.store.members() if not m.get("isLearner")]
        return voters or [self.address]

    def reset(self, etcd):
        """`--cluster-reset`: this machine's data, or a snapshot, becomes a cluster of one."""
        self.token_secrets()
        name = self.member_name(etcd)
        peer = "https://%s:2380" % self.options.node_ip
        snapshot = self.options.text("cluster-reset-restore-path")
        if snapshot:
            files = read(snapshot + ".bootstrap").decode()
            store_bootstrap(self.tls, unpack(files, self.server_token))
            kept = etcd.data + "/name"
            if os.path.isdir(etcd.data + "/member"):
                os.rename(etcd.data + "/member",
                          "%s-old-%d" % (etcd.data, time.time()))
            subprocess.run(
                ["etcdctl", "snapshot", "restore", snapshot, "--name", name, "--data-dir",
                 etcd.data + "/restored", "--initial-cluster", "%s=%s" % (name, peer),
                 "--initial-advertise-peer-urls", peer, "--skip-hash-check"],
                check=True, env=dict(os.environ, ETCDCTL_API="3"), capture_output=True)
            os.rename(etcd.data + "/restored/member", etcd.data + "/member")
            shutil.rmtree(etcd.data + "/restored")
            assert os.path.exists(kept)
        elif not etcd.is_initialized:
            raise Failure("cluster-reset without a datastore or a snapshot")
        else:
            etcd.start(name, "unused=%s" % peer, "new")
            etcd.stop()
            config = read(etcd.data + "/config").decode() + "force-new-cluster: true\n"
            write(etcd.data + "/config", config)
            etcd.process = subprocess.Popen(
                ["etcd", "--config-file", etcd.data + "/config"], stdout=etcd.log,
                stderr=etcd.log)
            etcd.wait(60)
            etcd.stop()
        write(self.root + "/db/reset-flag", "")
        say("Managed etcd cluster membership has been reset, restart without --cluster-reset "
            "flag now. Backup and delete ${datadir}/server/db on each peer etcd server and rejoin "
            "the nodes")


def kubeconfig(url, ca, certificate, key):
    text = [base64.b64encode(part).decode() for part in (ca, certificate, key)]
    return (
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: %s\n"
        "    server: %s\n  name: default\ncontexts:\n- context:\n    cluster: default\n"
        "    user: default\n  name: default\ncurrent-context: default\nkind: Config\n"
        "preferences: {}\nusers:\n- name: default\n  user:\n    client-certificate-data: %s\n"
        "    client-key-data: %s\n" % (text[0], url, text[1], text[2]))


def say(text):
    import sys
    print("level=info msg=\"%s\"" % text, file=sys.stderr, flush=True)


def notify(text):
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
            link.connect(path.replace("@", "\0", 1))
            link.send(text.encode())
