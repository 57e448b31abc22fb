"""Certificate authorities, certificates and tokens."""
import base64, hashlib, hmac, json, os, re, subprocess, tempfile

from .config import Failure


def write(path, data, mode=0o600):
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with open(path + ".tmp", "wb", opener=lambda p, f: os.open(p, f, mode)) as file:
        file.write(data if isinstance(data, bytes) else data.encode())
    os.rename(path + ".tmp", path)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def openssl(*words, data=None):
    done = subprocess.run(["openssl"] + list(words), input=data, capture_output=True)
    if done.returncode != 0:
        raise Failure("openssl: " + done.stderr.decode()[-300:])
    return done.stdout


def new_key(path):
    write(path, openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout"))


def new_authority(path, name):
    new_key(path + ".key")
    write(path + ".crt", openssl(
        "req", "-x509", "-new", "-key", path + ".key", "-days", "3650", "-subj", "/CN=" + name,
        "-addext", "keyUsage=critical,keyCertSign,digitalSignature,keyEncipherment"), 0o644)


def issue(authority, subject, names=()):
    """A key and a certificate of `authority`, both as PEM."""
    key = openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout")
    with tempfile.TemporaryDirectory() as scratch:
        write(scratch + "/key", key)
        write(scratch + "/csr", openssl("req", "-new", "-key", scratch + "/key", "-subj", subject))
        lines = ["extendedKeyUsage=serverAuth,clientAuth", "keyUsage=critical,digitalSignature"]
        if names:
            lines.append("subjectAltName=" + ",".join(names))
        write(scratch + "/ext", "\n".join(lines))
        # Valid before now, since the machines of a cluster rarely agree on the time.
        certificate = openssl(
            "x509", "-req", "-in", scratch + "/csr", "-CA", authority + ".crt", "-CAkey",
            authority + ".key", "-set_serial", str(int.from_bytes(os.urandom(8), "big") >> 1),
            "-days", "3650", "-extfile", scratch + "/ext")
    return key, certificate


# What a joining server gets from server-bootstrap.
BOOTSTRAP = [
    "server-ca.crt", "server-ca.key", "client-ca.crt", "client-ca.key", "etcd/server-ca.crt",
    "etcd/server-ca.key", "etcd/peer-ca.crt", "etcd/peer-ca.key",
]


def authorities(tls):
    for name in ["server-ca", "client-ca", "etcd/server-ca", "etcd/peer-ca"]:
        if not os.path.exists(tls + "/" + name + ".crt"):
            new_authority(tls + "/" + name, "k3s-" + name.replace("/", "-"))


def pack(tls, token):
    """The authorities, encrypted under the server token, as K3s keeps them in the datastore."""
    content = json.dumps(bootstrap_files(tls)).encode()
    salt = os.urandom(8)
    return base64.b64encode(salt + seal(content, token, salt)).decode()


def unpack(text, token):
    raw = base64.b64decode(text)
    return json.loads(seal(raw[8:], token, raw[:8], opening=True))


def seal(content, token, salt, opening=False):
    key = hashlib.pbkdf2_hmac("sha1", token.encode(), salt, 4096)
    if opening:
        content, tag = content[:-32], content[-32:]
        if not hmac.compare_digest(tag, hmac.new(key, content, "sha256").digest()):
            raise Failure("bootstrap data already found and encrypted with different token")
    stream = b"".join(
        hashlib.sha256(key + block.to_bytes(4, "big")).digest()
        for block in range(len(content) // 32 + 1))
    mixed = bytes(a ^ b for a, b in zip(content, stream))
    return mixed if opening else mixed + hmac.new(key, mixed, "sha256").digest()


def bootstrap_files(tls):
    return {name: read(tls + "/" + name).decode() for name in BOOTSTRAP}


def store_bootstrap(tls, files):
    for name in BOOTSTRAP:
        write(tls + "/" + name, files[name])


def ca_hash(pem):
    """Of the file's bytes for a single certificate (clientaccess.hashCA)."""
    return hashlib.sha256(pem).hexdigest()


class Token:
    """`K10<hash>::<user>:<password>`, `<user>:<password>` or a bare password; in the place of user and
    password also a bootstrap token."""

    def __init__(self, text, user="server"):
        self.hash = ""
        if text.startswith("K10"):
            head, separator, rest = text[3:].partition("::")
            if not separator or len(head) not in (0, 64):
                raise Failure("invalid token format")
            self.hash, text = head, rest
        self.user, colon, self.password = text.partition(":")
        self.is_bootstrap = re.fullmatch(r"[a-z0-9]{6}\.[a-z0-9]{16}", text) is not None
        if not colon:
            self.user, self.password = user, text
        if not self.password:
            raise Failure("invalid token format")

    @property
    def header(self):
        if self.is_bootstrap:
            return "Bearer " + self.password
        pair = "%s:%s" % (self.user, self.password)
        return "Basic " + base64.b64encode(pair.encode()).decode()
