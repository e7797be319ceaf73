"""A body: a machine of namespaces over a node image, with a link on the bridge, a folder for what it writes and a cgroup in every hierarchy."""
import errno
import os
import shutil
import signal
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
NAMESERVER = "169.254.169.253"
BRIDGE = "bodies0"
BRIDGE_MAC = "02:6b:00:00:00:01"
STOP_S_MAX = 30


def run(*words, check=True, text=None):
    """Runs a short command; what it complains of is in the exception."""
    done = subprocess.run(words, input=text, capture_output=True, text=True, timeout=20)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr.strip()} {text or ''}")
    return done


class Cgroups:
    """The machines' groups: <name>/<machine> in every v1 hierarchy, else in the v2 one."""

    def __init__(self, name):
        with open("/proc/self/mounts", encoding="utf-8") as file:
            mounts = [line.split()[:3] for line in file]
        self.name = name
        self.tops = [path for _, path, kind in mounts if kind == "cgroup"] or [path for _, path, kind in mounts if kind == "cgroup2"][:1]

    @staticmethod
    def write(path, text):
        with open(path, "w", encoding="ascii") as file:
            file.write(text)

    def make(self, machine):
        for top in self.tops:
            above = top
            for part in (self.name, machine):
                path = os.path.join(above, part)
                os.makedirs(path, exist_ok=True)
                for name in ("cpuset.cpus", "cpuset.mems"):  # a v1 group has none until it is told
                    if os.path.exists(f"{above}/{name}") and not os.path.exists(f"{top}/cgroup.controllers"):
                        with open(f"{above}/{name}", encoding="ascii") as file:
                            self.write(f"{path}/{name}", file.read())
                if os.path.exists(f"{above}/cgroup.subtree_control"):
                    with open(f"{above}/cgroup.controllers", encoding="ascii") as file:
                        for controller in file.read().split():
                            self.write(f"{above}/cgroup.subtree_control", "+" + controller)
                above = path

    def joining(self, machine):
        """A command that puts the shell it runs in into the groups."""
        return "".join(f"echo 0 >'{top}/{self.name}/{machine}/cgroup.procs' && " for top in self.tops)

    def remove(self, machine=None):
        deadline = time.monotonic() + 10
        for top in self.tops:
            path = os.path.join(top, self.name, *([machine] if machine else []))
            while os.path.isdir(path):
                for folder, _, _ in os.walk(path, topdown=False):
                    try:
                        with open(f"{folder}/cgroup.procs", encoding="ascii") as file:
                            for pid in file.read().split():
                                if int(pid) > 1:
                                    os.kill(int(pid), signal.SIGKILL)
                        os.rmdir(folder)
                    except (FileNotFoundError, ProcessLookupError):
                        pass
                    except OSError as error:
                        if error.errno != errno.EBUSY:
                            raise
                if os.path.isdir(path):
                    if time.monotonic() > deadline:
                        raise RuntimeError(f"{path} stays")
                    time.sleep(0.02)


class Body:
    def __init__(self, server, folder, images, cgroups):
        self.id, self.address = server.id, server.address
        self.folder, self.images, self.cgroups = f"{folder}/{server.id}", images, cgroups
        number = [int(part) for part in server.address.split(".")]
        self.port = f"b{number[2] << 8 | number[3]:x}"
        self.mac = "02:6b:" + ":".join(f"{part:02x}" for part in number)
        self.process = None
        for name in ("upper", "work", "root", "data/etcd", "data/kubelet", "data/log"):
            os.makedirs(f"{self.folder}/{name}", exist_ok=True)
        os.chmod(f"{self.folder}/data/etcd", 0o700)

    def is_on(self):
        return self.process is not None and self.process.poll() is None

    def start(self, server):
        image = f"{self.images}/{server.image}"
        if not server.image or not os.path.isdir(f"{image}/rootfs"):
            raise RuntimeError(f"{server.name}: node image {server.image!r} is not in {self.images}")
        self.cgroups.make(self.id)
        self.process = subprocess.Popen(
            ["sh", "-c", self.cgroups.joining(self.id) + 'exec unshare --mount --net --pid --uts --ipc --cgroup --fork --kill-child -- "$@"', "sh",
             f"{HERE}/machine", self.folder, f"{image}/rootfs:{image}/base/rootfs", NAMESERVER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        said = self.process.stdout.readline()
        if said != b"there\n":
            self.kill()
            raise RuntimeError(f"{server.name} does not start: {said!r}")
        run("ip", "link", "delete", self.port, check=False)
        run("ip", "link", "add", self.port, "master", BRIDGE, "up", "type", "veth", "peer", "name", "eth0", "address", self.mac, "netns", str(self.process.pid))
        run("nsenter", f"--net=/proc/{self.process.pid}/ns/net", "ip", "-batch", "-",
            text=f"link set lo up\naddress add {server.address}/{server.prefix} dev eth0\nlink set eth0 up\nroute add default via {server.gateway} dev eth0 onlink\n")
        self.process.stdin.write(b"go\n")
        self.process.stdin.close()
        self.process.stdout.close()

    def init_pid(self):
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as file:
            return int(file.read().split()[0])

    def stop(self):
        """As by its power button; after a while by the plug."""
        if self.is_on():
            try:
                os.kill(self.init_pid(), signal.SIGPWR)
                self.process.wait(STOP_S_MAX)
            except (OSError, IndexError, subprocess.TimeoutExpired):
                pass
        self.kill()

    def kill(self):
        if self.process is not None:
            self.process.kill()  # unshare takes the machine's init with it
            self.process.wait()
            self.process = None
        self.cgroups.remove(self.id)
        run("ip", "link", "delete", self.port, check=False)

    def remove(self):
        self.kill()
        shutil.rmtree(self.folder)
