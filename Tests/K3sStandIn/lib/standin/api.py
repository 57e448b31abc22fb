"""Supervisor and Kubernetes API on port 6443."""
import base64, hashlib, http.server, json, os, ssl, threading, time

from .config import Failure
from .etcd import address
from .secrets import bootstrap_files, issue, read

NODES, SECRETS, MAPS = "/registry/nodes/", "/registry/secrets/", "/registry/configmaps/"
# A kubelet that said nothing for so long is not ready (40 s in Kubernetes).
SILENCE = 12

# What kubectl asks before it asks for anything.
DISCOVERY = {
    "/api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [
        {"name": name, "singularName": kind.lower(), "kind": kind, "namespaced": name != "nodes",
         "verbs": ["get", "list", "create", "delete"]}
        for name, kind in [("nodes", "Node"), ("secrets", "Secret"),
                           ("configmaps", "ConfigMap")]]},
}


class API(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, server):
        self.k3s = server
        super().__init__(("0.0.0.0", 6443), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(server.tls + "/serving.crt", server.tls + "/serving.key")
        context.load_verify_locations(server.tls + "/client-ca.crt")
        context.verify_mode = ssl.CERT_OPTIONAL
        self.context = context
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def finish_request(self, request, client):
        # The handshake is done here, off the accepting thread.
        request.settimeout(20)
        try:
            with self.context.wrap_socket(request, server_side=True) as link:
                self.RequestHandlerClass(link, client, self)
        except (OSError, ValueError):
            pass

    def handle_error(self, request, client):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, code, body, kind="application/json"):
        data = body if isinstance(body, bytes) else (
            body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = True

    def status(self, code, message):
        self.answer(code, {"kind": "Status", "apiVersion": "v1", "status": "Failure",
                           "message": message, "code": code})

    def body(self):
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")

    def user(self):
        """The client certificate's name and groups, else the basic user."""
        certificate = self.connection.getpeercert()
        if certificate:
            fields = [pair for part in certificate["subject"] for pair in part]
            return (dict(fields).get("commonName", ""),
                    [value for key, value in fields if key == "organizationName"])
        header = self.headers.get("Authorization", "")
        if header.startswith("Basic "):
            name, _, password = base64.b64decode(header[6:]).decode().partition(":")
            k3s = self.server.k3s
            if name == "server" and password == k3s.server_token:
                return "server", ["k3s:server"]
            if name == "node" and password in (k3s.server_token, k3s.agent_token):
                return "node", ["k3s:agent"]
        if header.startswith("Bearer ") and self.bootstraps(*header[7:].partition(".")[::2]):
            return "system:bootstrap", ["system:bootstrappers"]
        return "", []

    def bootstraps(self, name, secret):
        """Whether a bootstrap token is there and valid."""
        store = self.server.k3s.store
        kept = store and store.get(SECRETS + "bootstrap-token-" + name)
        if not kept:
            return False
        data = {key: base64.b64decode(value).decode()
                for key, value in json.loads(kept)["data"].items()}
        return secret == data["token-secret"] and time.time() < float(
            data.get("expiration", "inf"))

    def do_GET(self):
        self.route("GET")

    def do_PUT(self):
        self.route("PUT")

    def do_POST(self):
        self.route("POST")

    def do_DELETE(self):
        self.route("DELETE")

    def route(self, method):
        path = self.path.split("?")[0]
        try:
            self.dispatch(method, path)
        except Failure as failure:
            self.status(500, str(failure))
        except (KeyError, ValueError) as error:
            self.status(400, repr(error))

    def dispatch(self, method, path):
        k3s = self.server.k3s
        if path == "/ping":
            return self.answer(200, "pong", "text/plain")
        if path == "/cacerts":
            return self.answer(200, read(k3s.tls + "/server-ca.crt"), "text/plain")
        name, groups = self.user()
        if not groups:
            return self.status(401, "Unauthorized")
        is_server, is_admin = "k3s:server" in groups, "system:masters" in groups
        is_agent = is_server or "k3s:agent" in groups or "system:bootstrappers" in groups
        if path == "/v1-k3s/readyz" and is_agent:
            return self.answer(200, "ok", "text/plain") if k3s.is_ready else self.status(
                503, "starting")
        if path == "/v1-k3s/config" and is_agent:
            return self.answer(200, k3s.options.critical() if is_server else {})
        if path == "/v1-k3s/apiservers" and is_agent:
            return self.answer(200, k3s.api_servers())
        if path == "/v1-k3s/serving-kubelet.crt" and is_agent:
            return self.kubelet(k3s)
        if path == "/v1-k3s/server-bootstrap" and is_server:
            return self.answer(200, bootstrap_files(k3s.tls))
        if path == "/db/info" and is_server:
            return self.answer(200, {"members": k3s.store.members()})
        if path == "/readyz" and (is_admin or name.startswith("system:node:")):
            if k3s.is_ready:
                k3s.store.get("/ready")
                return self.answer(200, "ok", "text/plain")
            return self.status(500, "readyz check failed")
        if path == "/version":
            return self.answer(200, {"major": "1", "minor": "0", "gitVersion": "v1.0.0+standin"})
        if path in DISCOVERY:
            return self.answer(200, DISCOVERY[path])
        if path.startswith("/api/v1/"):
            return self.kubernetes(method, path[len("/api/v1/"):].split("/"), name, is_admin)
        self.status(403 if path.startswith("/v1-k3s") or path == "/db/info" else 404, "forbidden")

    def kubelet(self, k3s):
        """Certificates of one node, for whoever knows its password."""
        node, password = self.headers["Node-Name"], self.headers["Node-Password"]
        digest = hashlib.sha256(password.encode()).hexdigest()
        key = SECRETS + node + ".node-password.k3s"
        if not k3s.store.create(key, digest) and k3s.store.get(key) != digest:
            return self.status(403, "Node password rejected, duplicate hostname or contents of "
                               "'/etc/rancher/node/password' may not match server node-passwd "
                               "entry, try enabling a unique node name with the --with-node-id "
                               "flag")
        own_key, certificate = issue(
            k3s.tls + "/client-ca", "/O=system:nodes/CN=system:node:" + node)
        self.answer(200, {"key": own_key.decode(), "certificate": certificate.decode(),
                          "servers": k3s.api_servers()})

    def kubernetes(self, method, words, user, is_admin):
        store = self.server.k3s.store
        if words[0] == "nodes":
            prefix, kind, words = NODES, "Node", words[1:]
        elif words[:2] == ["namespaces", "kube-system"] and words[2] in ("secrets", "configmaps"):
            prefix = SECRETS if words[2] == "secrets" else MAPS
            kind, words = "Secret" if words[2] == "secrets" else "ConfigMap", words[3:]
        else:
            return self.status(404, "not found")
        is_own = kind == "Node" and words and user == "system:node:" + words[0]
        if not (is_admin or kind == "Node" and (method == "GET" or method == "PUT" and is_own)):
            return self.status(403, "%s cannot %s %s" % (user, method, kind))
        if not words and method == "GET":
            items = [self.shown(kind, key[len(prefix):], value)
                     for key, value in sorted(store.list(prefix).items())]
            return self.answer(200, {"kind": kind + "List", "apiVersion": "v1",
                                     "metadata": {"resourceVersion": "1"}, "items": items})
        if not words and method == "POST":
            item = self.body()
            name = item["metadata"]["name"]
            item["metadata"]["uid"] = os.urandom(16).hex()
            if not store.create(prefix + name, json.dumps(item)):
                return self.status(409, "%s \"%s\" already exists" % (kind.lower() + "s", name))
            return self.answer(201, item)
        name = words[0]
        value = store.get(prefix + name)
        if method == "PUT":
            return self.register(store, name, value)
        if value is None:
            return self.status(404, "%s \"%s\" not found" % (kind.lower() + "s", name))
        if method == "DELETE":
            if kind == "Node":
                self.remove_node(store, name, json.loads(value))
            store.delete(prefix + name)
            return self.answer(200, {"kind": "Status", "apiVersion": "v1", "status": "Success"})
        self.answer(200, self.shown(kind, name, value))

    def register(self, store, name, known):
        item = self.body()
        old = json.loads(known) if known else None
        if old is None and self.path.endswith("?heartbeat"):
            return self.status(404, "nodes \"%s\" not found" % name)
        item["metadata"]["uid"] = old["metadata"]["uid"] if old else os.urandom(16).hex()
        item["heartbeat"] = time.time()
        store.put(NODES + name, json.dumps(item))
        self.answer(200, item)

    def remove_node(self, store, name, item):
        """What K3s' controllers do when a Node goes: its member and its password go, too."""
        node_address = item["metadata"].get("annotations", {}).get("etcd.k3s.cattle.io/node-address")
        if node_address:
            store.remove_member(node_address)
        store.delete(SECRETS + name + ".node-password.k3s")

    def shown(self, kind, name, value):
        if kind == "Secret" and not value.startswith("{"):
            return {"kind": kind, "apiVersion": "v1", "metadata": {
                "name": name, "namespace": "kube-system"}, "data": {"hash": value}}
        item = json.loads(value)
        item.update({"kind": kind, "apiVersion": "v1"})
        heartbeat = item.pop("heartbeat", None)
        if kind == "Node":
            is_silent = heartbeat is None or abs(time.time() - heartbeat) > SILENCE
            conditions = [{"type": "Ready", "status": "Unknown" if is_silent else "True"}]
            labels = item["metadata"].get("labels", {})
            if labels.get("node-role.kubernetes.io/etcd") == "true":
                own = item["metadata"]["annotations"]["etcd.k3s.cattle.io/node-address"]
                votes = any(address(member) == own and not member.get("isLearner")
                            for member in self.server.k3s.store.members())
                conditions.append({"type": "EtcdIsVoter", "status": str(votes)})
            item["status"]["conditions"] = conditions
        return item
