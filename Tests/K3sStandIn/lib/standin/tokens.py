"""`k3s token create`: a bootstrap token of an agent, kept as Kubernetes keeps it."""
import base64, secrets, string, time

from .config import Failure
from .kubectl import connect, place
from .secrets import ca_hash

HELP = """NAME:
   k3s token create - Create bootstrap tokens on the server

OPTIONS:
   --data-dir value, --kubeconfig value, --description value, --ttl value
"""
LETTERS = string.ascii_lowercase + string.digits


def run(words):
    if words[:1] != ["create"]:
        raise Failure("only create is known here")
    if "--help" in words:
        print(HELP)
        return 0
    options = dict(zip(words[1::2], words[2::2]))
    remote = connect(options.get("--kubeconfig", "/etc/rancher/k3s/k3s.yaml"), 10)
    name, secret = (
        "".join(secrets.choice(LETTERS) for _ in range(count)) for count in (6, 16))
    data = {"token-id": name, "token-secret": secret,
            "description": options.get("--description", "")}
    ttl = options.get("--ttl", "24h")
    if ttl != "0":
        unit = {"s": 1, "m": 60, "h": 3600}[ttl[-1]]
        data["expiration"] = str(time.time() + int(ttl[:-1]) * unit)
    remote.need("POST", place("secret"), {
        "kind": "Secret", "apiVersion": "v1", "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": "bootstrap-token-" + name, "namespace": "kube-system"},
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}})
    print("K10%s::%s.%s" % (ca_hash(remote.need("GET", "/cacerts")), name, secret))
    return 0
