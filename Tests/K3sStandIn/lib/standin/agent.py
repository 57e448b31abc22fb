"""The kubelet's part: node password, registration, heartbeats."""
import json, os, time

from .client import LoadBalancer, Remote, validated
from .config import Failure
from .secrets import Token, read, write


class Agent:
    def __init__(self, options, server=None):
        self.options, self.server = options, server
        self.root = options.data + "/agent"

    def run(self):
        from .server import kubeconfig, say
        self.url = "https://127.0.0.1:6443" if self.server else self.options.text("server")
        if self.server:
            self.token = Token("server:" + self.server.server_token)
        else:
            self.token = Token(self.options.secret("token"), "node")
        if not self.token.is_bootstrap:
            self.token.user = "node"
        servers = [self.url.split("//")[1].rsplit(":", 1)[0]]
        balancer = LoadBalancer(servers, self.root + "/etc/k3s-agent-load-balancer.json")
        if not self.server:
            self.url = "https://127.0.0.1:6444"
        while True:
            try:
                ca, bundle = self.credentials()
                break
            except Failure as failure:
                say("Waiting to retrieve agent configuration; " + str(failure))
                time.sleep(2)
        write(self.root + "/kubelet.key", bundle["key"])
        write(self.root + "/kubelet.crt", bundle["certificate"])
        write(self.root + "/server-ca.crt", ca)
        write(self.root + "/kubelet.kubeconfig", kubeconfig(
            "https://127.0.0.1:6444", ca.encode(), bundle["certificate"].encode(),
            bundle["key"].encode()))
        balancer.learn(bundle["servers"])
        remote = Remote("https://127.0.0.1:6444", ca, certificate=(
            self.root + "/kubelet.crt", self.root + "/kubelet.key"), limit=5)
        node = Remote("https://127.0.0.1:6444", ca, self.token.header, limit=5)
        # A kubelet registers once; a Node that is deleted then stays deleted until the next start.
        path = "/api/v1/nodes/" + self.options.node_name
        while True:
            try:
                remote.need("PUT", path, self.node())
                path = path.split("?")[0] + "?heartbeat"
                balancer.learn(json.loads(node.need("GET", "/v1-k3s/apiservers")))
            except Failure as failure:
                say(str(failure))
            time.sleep(3)

    def credentials(self):
        path = self.options.password_file
        if not os.path.exists(path):
            write(path, os.urandom(16).hex() + "\n")
        ca = validated(self.url, self.token)
        remote = Remote(self.url, ca, self.token.header)
        answer = remote.need("GET", "/v1-k3s/serving-kubelet.crt", headers={
            "Node-Name": self.options.node_name,
            "Node-Password": read(path).decode().strip()})
        return ca, json.loads(answer)

    def node(self):
        options = self.options
        labels = {"kubernetes.io/hostname": options.node_name}
        annotations = {"k3s.io/internal-ip": options.node_ip}
        for label in options.list("node-label"):
            key, _, value = label.partition("=")
            labels[key] = value
        if self.server:
            labels["node-role.kubernetes.io/control-plane"] = "true"
            if hasattr(self.server.store, "wal"):
                labels["node-role.kubernetes.io/etcd"] = "true"
                annotations["etcd.k3s.cattle.io/node-address"] = options.node_ip
                annotations["etcd.k3s.cattle.io/node-name"] = self.server.member_name(
                    self.server.store)
        return {"kind": "Node", "apiVersion": "v1",
                "metadata": {"name": options.node_name, "labels": labels,
                             "annotations": annotations},
                "status": {"addresses": [
                    {"type": "InternalIP", "address": options.node_ip},
                    {"type": "Hostname", "address": options.node_name}]}}
