"""Flags and configuration files, merged as K3s merges them."""
import glob, os, socket

# Joining servers must agree with these; what K3s says otherwise is "critical configuration value
# mismatch".
CRITICAL = [
    "cluster-cidr", "service-cidr", "cluster-dns", "cluster-domain", "flannel-backend",
    "flannel-external-ip", "flannel-ipv6-masq", "egress-selector-mode", "embedded-registry",
    "secrets-encryption", "secrets-encryption-provider", "disable-cloud-controller",
    "disable-helm-controller", "disable-network-policy", "disable=servicelb",
]
FLAGS = {"cluster-init", "cluster-reset", "disable-agent", "secrets-encryption",
         "disable-network-policy", "disable-cloud-controller", "disable-helm-controller",
         "flannel-external-ip", "flannel-ipv6-masq", "embedded-registry", "debug"}
LISTS = {"tls-san", "node-label", "disable", "node-ip", "kubelet-arg"}
VALUES = {
    "config", "data-dir", "server", "token", "token-file", "agent-token", "agent-token-file",
    "advertise-address", "flannel-iface", "node-name", "write-kubeconfig",
    "write-kubeconfig-mode", "cluster-reset-restore-path", "bind-address", "flannel-backend",
    "cluster-cidr", "service-cidr", "cluster-dns", "cluster-domain", "egress-selector-mode",
    "container-runtime-endpoint", "secrets-encryption-provider",
}
ENVIRONMENT = {"K3S_TOKEN": "token", "K3S_TOKEN_FILE": "token-file", "K3S_URL": "server",
               "K3S_AGENT_TOKEN": "agent-token", "K3S_NODE_NAME": "node-name",
               "K3S_CONFIG_FILE": "config", "K3S_DATA_DIR": "data-dir"}


class Failure(Exception):
    pass


def scalar(text):
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1].replace("''", "'") if text[0] == "'" else text[1:-1]
    return text.split(" #")[0].strip()


def yaml(text):
    """Top-level scalars and lists, which is all that a K3s configuration consists of."""
    result, key = {}, None
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line.lstrip().startswith("- "):
            if key is None:
                raise Failure("yaml: a list without a key")
            result.setdefault(key, [])
            result[key].append(scalar(line.lstrip()[2:]))
            continue
        if line[0] in " \t" or ":" not in line:
            raise Failure("yaml: cannot read %r" % line)
        key, value = line.split(":", 1)
        key, value = key.strip(), value.strip()
        if value.startswith("[") and value.endswith("]"):
            result[key] = [scalar(item) for item in value[1:-1].split(",") if item.strip()]
        elif value:
            result[key] = scalar(value)
    return result


def read_files(path, is_named):
    files = sorted(glob.glob(path + ".d/*.yaml") + glob.glob(path + ".d/*.yml"))
    if os.path.exists(path):
        files = [path] + files
    elif is_named and not files:
        raise Failure("open %s: no such file or directory" % path)
    merged = {}
    for name in files:
        with open(name) as file:
            for key, value in yaml(file.read()).items():
                if key.endswith("+"):
                    key = key[:-1]
                    old = merged.get(key, [])
                    old = old if isinstance(old, list) else [old]
                    value = old + (value if isinstance(value, list) else [value])
                merged[key] = value
    return merged


def parse(arguments):
    given, index = {}, 0
    while index < len(arguments):
        word = arguments[index]
        if not word.startswith("-"):
            raise Failure("unexpected argument %s" % word)
        name, equals, value = word.lstrip("-").partition("=")
        if name not in FLAGS | LISTS | VALUES:
            raise Failure("flag provided but not defined: -%s" % name)
        if name in FLAGS:
            value = value or "true"
        elif not equals:
            index += 1
            if index == len(arguments):
                raise Failure("flag needs an argument: -%s" % name)
            value = arguments[index]
        if name in LISTS:
            given.setdefault(name, []).append(value)
        else:
            given[name] = value
        index += 1
    environment = {key: os.environ[name] for name, key in ENVIRONMENT.items() if name in os.environ}
    named = given.get("config", environment.get("config"))
    merged = read_files(named or "/etc/rancher/k3s/config.yaml", named is not None)
    for key in [key for key in merged if key not in FLAGS | LISTS | VALUES]:
        print("Unknown flag --%s found in config.yaml, skipping" % key, file=sys_stderr())
        del merged[key]
    merged.update(environment)
    merged.update(given)
    return Options(merged)


def sys_stderr():
    import sys
    return sys.stderr


class Options:
    def __init__(self, values):
        self.values = values
        self.data = values.get("data-dir", "/var/lib/rancher/k3s")
        config = values.get("config", "/etc/rancher/k3s/config.yaml")
        self.password_file = os.path.join(
            os.path.dirname(os.path.dirname(os.path.abspath(config))), "node", "password")
        self.node_name = values.get("node-name", socket.gethostname()).lower()
        self.kubeconfig = values.get("write-kubeconfig", "/etc/rancher/k3s/k3s.yaml")

    def flag(self, name):
        return str(self.values.get(name, "false")).lower() == "true"

    def text(self, name, default=""):
        return self.values.get(name, default)

    def list(self, name):
        value = self.values.get(name, [])
        items = value if isinstance(value, list) else [value]
        return [part for item in items for part in item.split(",") if part]

    def secret(self, name):
        if name in self.values:
            return self.values[name]
        path = self.values.get(name + "-file")
        if not path:
            return ""
        try:
            with open(path) as file:
                return file.read().strip()
        except OSError as error:
            raise Failure("failed to read %s: %s" % (path, error))

    @property
    def node_ip(self):
        addresses = self.list("node-ip")
        if not addresses and self.text("flannel-iface"):
            addresses = [interface_address(self.text("flannel-iface"))]
        return addresses[0] if addresses else "127.0.0.1"

    def critical(self):
        found = {key: self.values[key] for key in CRITICAL if key in self.values}
        if "servicelb" in self.list("disable"):
            found["disable=servicelb"] = "true"
        return found


def interface_address(name):
    import fcntl, struct
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("256s", name.encode()[:15])
        try:
            return socket.inet_ntoa(fcntl.ioctl(probe.fileno(), 0x8915, request)[20:24])
        except OSError:
            raise Failure("unable to find interface %s" % name)
