"""Requests to servers, and the load balancer of every node."""
import http.client, json, os, socket, ssl, threading
from urllib.parse import urlparse

from .config import Failure
from .secrets import ca_hash


def context_for(ca=None):
    if ca is None:
        context = ssl._create_unverified_context()
    else:
        context = ssl.create_default_context(cadata=ca)
    return context


class Remote:
    def __init__(self, url, ca=None, header=None, certificate=None, limit=10):
        self.url, self.header, self.limit = urlparse(url), header, limit
        self.context = context_for(ca)
        if certificate:
            self.context.load_cert_chain(*certificate)

    def ask(self, method, path, body=None, headers=()):
        link = http.client.HTTPSConnection(
            self.url.hostname, self.url.port or 443, context=self.context, timeout=self.limit)
        headers = dict(headers)
        if self.header:
            headers["Authorization"] = self.header
        try:
            link.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = link.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Failure("%s: %s" % (self.url.geturl(), error))
        finally:
            link.close()

    def need(self, method, path, body=None, headers=()):
        status, data = self.ask(method, path, body, headers)
        if status >= 300:
            try:
                message = json.loads(data)["message"]
            except (ValueError, KeyError):
                message = data.decode(errors="replace")[:200]
            raise Failure("%s %s: %s" % (path, status, message))
        return data


def validated(url, token):
    """The CA of a server, checked against the token's hash before any credential is sent."""
    _, pem = Remote(url).ask("GET", "/cacerts")
    if token.hash and ca_hash(pem) != token.hash:
        raise Failure("token CA hash does not match the Cluster CA certificate hash: %s != %s"
                      % (token.hash, ca_hash(pem)))
    return pem.decode()


class LoadBalancer:
    """127.0.0.1:6444: forwards to the first server that takes the connection."""

    def __init__(self, servers, path):
        self.path = path
        self.servers = list(dict.fromkeys(self.saved() + servers))
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", 6444))
        self.socket.listen(64)
        threading.Thread(target=self.accept, daemon=True).start()

    def saved(self):
        try:
            with open(self.path) as file:
                return json.load(file)
        except (OSError, ValueError):
            return []

    def learn(self, servers):
        if servers and servers != self.servers:
            self.servers = servers
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            with open(self.path, "w") as file:
                json.dump(servers, file)

    def accept(self):
        while True:
            client, _ = self.socket.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        for server in list(self.servers):
            try:
                link = socket.create_connection((server, 6443), timeout=2)
            except OSError:
                continue
            if server != self.servers[0] and server in self.servers:
                self.servers.remove(server)
                self.servers.insert(0, server)
            for ends in [(client, link), (link, client)]:
                threading.Thread(target=pump, args=ends, daemon=True).start()
            return
        client.close()


def pump(source, target):
    source.settimeout(30)
    try:
        while True:
            data = source.recv(65536)
            if not data:
                break
            target.sendall(data)
    except OSError:
        pass
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        end.close()
