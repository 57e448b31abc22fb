"""The command line of the stand-in."""
import os, subprocess, sys, time

from .config import Failure, parse


def main(words):
    verb, rest = (words[0], words[1:]) if words else ("", [])
    try:
        if verb in ("--version", "-v"):
            print("k3s version v1.0.0+standin (0000000)")
        elif verb == "server":
            from .server import Server
            Server(parse(rest)).run()
        elif verb == "agent":
            from .agent import Agent
            options = parse(rest)
            if not options.text("server") or not options.secret("token"):
                raise Failure("--server and --token are required")
            Agent(options).run()
        elif verb == "kubectl":
            from .kubectl import run
            return run(rest)
        elif verb == "token":
            from .tokens import run
            return run(rest)
        elif verb == "etcd-snapshot":
            return snapshot(rest)
        else:
            raise Failure("No help topic for '%s'" % verb)
    except Failure as failure:
        print("level=fatal msg=\"%s\"" % failure, file=sys.stderr, flush=True)
        os._exit(1)
    return 0


def snapshot(words):
    """`k3s etcd-snapshot save`: a snapshot, and beside it the authorities under the token."""
    from .etcd import Etcd
    from .secrets import pack, read, write
    if words[:1] != ["save"]:
        raise Failure("only save is known here")
    values = dict(word.lstrip("-").split("=", 1) for word in words[1:])
    data = values.get("data-dir", "/var/lib/rancher/k3s")
    tls = data + "/server/tls"
    directory = values.get("dir", data + "/server/db/snapshots")
    os.makedirs(directory, mode=0o700, exist_ok=True)
    path = "%s/%s-%d" % (directory, values.get("name", "on-demand"), time.time())
    done = subprocess.run(
        ["etcdctl", "--endpoints=https://127.0.0.1:2379", "--cacert", tls + "/etcd/server-ca.crt",
         "--cert", tls + "/etcd/client.crt", "--key", tls + "/etcd/client.key", "snapshot",
         "save", path], env=dict(os.environ, ETCDCTL_API="3"), capture_output=True)
    if done.returncode != 0:
        raise Failure(done.stderr.decode()[-200:])
    token = read(data + "/server/cred-passphrase").decode()
    write(path + ".bootstrap", pack(tls, token))
    print("Snapshot %s saved." % path)
    return 0
