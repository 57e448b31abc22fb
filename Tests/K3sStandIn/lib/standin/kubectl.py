"""The few words of `k3s kubectl` that operators and programs use around a founding."""
import base64, json, os, re, sys, tempfile

from .client import Remote
from .config import Failure, yaml


def run(words):
    options, plain, index = {}, [], 0
    with_value = {"--kubeconfig", "-n", "--namespace", "-o", "--output", "--raw",
                  "--request-timeout", "--from-literal", "--timeout", "--field-selector",
                  "--server"}
    while index < len(words):
        name, equals, value = words[index].partition("=")
        if name in with_value:
            if not equals:
                index += 1
                value = words[index]
            options[name] = value
        elif name.startswith("-"):
            options[name] = value or "true"
        else:
            plain.append(words[index])
        index += 1
    path = options.get("--kubeconfig") or os.environ.get(
        "KUBECONFIG", "/etc/rancher/k3s/k3s.yaml")
    limit = float(options.get("--request-timeout", "10s").rstrip("s"))
    remote = connect(path, limit, options.get("--server"))
    verb, plain = plain[0] if plain else "", plain[1:]
    output = options.get("-o") or options.get("--output")
    try:
        if verb == "get" and "--raw" in options:
            print(remote.need("GET", options["--raw"]).decode())
        elif verb == "get":
            get(remote, plain, output, options.get("--field-selector"))
        elif verb == "delete":
            remote.need("DELETE", place(plain[0], plain[1]))
            print('%s "%s" deleted' % (plain[0], plain[1]))
        elif verb == "create" and plain[0] == "configmap":
            key, _, value = options.get("--from-literal", "=").partition("=")
            remote.need("POST", place("configmap"), {
                "kind": "ConfigMap", "apiVersion": "v1",
                "metadata": {"name": plain[1], "namespace": "kube-system"},
                "data": {key: value}})
            print("configmap/%s created" % plain[1])
        else:
            raise Failure("unknown command %s" % verb)
    except Failure as failure:
        if "not found" in str(failure) and options.get("--ignore-not-found", "false") != "false":
            return 0
        if " 401: " in str(failure):
            failure = "error: You must be logged in to the server (Unauthorized)"
            print(failure, file=sys.stderr)
            return 1
        print("Error from server: %s" % failure, file=sys.stderr)
        return 1
    return 0


def place(kind, name=None):
    kind = kind.rstrip("s")
    base = {"node": "/api/v1/nodes", "secret": "/api/v1/namespaces/kube-system/secrets",
            "configmap": "/api/v1/namespaces/kube-system/configmaps"}[kind]
    return base + "/" + name if name else base


def get(remote, plain, output, selector=None):
    data = json.loads(remote.need("GET", place(*plain[:2])))
    if selector and "items" in data:
        field, _, value = selector.partition("=")
        data["items"] = [item for item in data["items"] if item.get(field) == value]
    if output == "json":
        print(json.dumps(data))
        return
    if (output or "").startswith("custom-columns="):
        columns = [column.split(":", 1)[1] for column in output[15:].split(",")]
        for item in data.get("items", [data]):
            print("   ".join(cell(item, column) for column in columns))
        return
    print("NAME STATUS ROLES")
    for item in data.get("items", [data]):
        ready = [c["status"] for c in item["status"]["conditions"] if c["type"] == "Ready"]
        roles = [key.split("/")[1] for key in item["metadata"]["labels"] if "node-role" in key]
        print(item["metadata"]["name"], "Ready" if ready == ["True"] else "NotReady",
              ",".join(sorted(roles)) or "<none>")


def cell(item, path):
    """One custom column: field names, and `[?(@.type=="X")]` to choose from a list."""
    values = [item]
    for step in re.findall(r'\.((?:[^.\[\\]|\\.)+)|\[\?\(@\.type=="(\w+)"\)\]', path):
        if step[0]:
            name = step[0].replace("\\", "")
            values = [value.get(name) for value in values if isinstance(value, dict)]
            if len(values) == 1 and isinstance(values[0], list):
                values = values[0]
        else:
            values = [value for value in values if value.get("type") == step[1]]
    return ",".join(str(value) for value in values if value is not None) or "<none>"


def connect(path, limit, server=None):
    try:
        with open(path) as file:
            text = file.read()
    except OSError as error:
        raise Failure("error loading config file: %s" % error)
    fields = dict(
        line.strip().split(": ", 1) for line in text.splitlines() if ": " in line)
    if server:
        fields["server"] = server
    if "token" in fields:
        with open(fields["certificate-authority"]) as file:
            return Remote(fields["server"], file.read(), "Bearer " + fields["token"], limit=limit)
    scratch = tempfile.mkdtemp()
    try:
        for name in ("certificate", "key"):
            with open(scratch + "/" + name, "wb", opener=lambda p, f: os.open(p, f, 0o600)) as file:
                file.write(base64.b64decode(fields["client-%s-data" % name]))
        return Remote(
            fields["server"], base64.b64decode(fields["certificate-authority-data"]).decode(),
            certificate=(scratch + "/certificate", scratch + "/key"), limit=limit)
    finally:
        for name in ("certificate", "key"):
            os.unlink(scratch + "/" + name)
        os.rmdir(scratch)
