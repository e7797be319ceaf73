#!/usr/bin/env python3
# Machines for the servers of a cloud that is an API in memory: moto for AWS, tests/support/hetzner.py.
"""
  bodies.py --cloud aws|hetzner --url URL --folder FOLDER [--images FOLDER]

Gives bodies to the machines of a cloud that is an API in memory (moto's server with AWS_* in the environment, tests/support/hetzner.py): whatever
server is running there is a machine of namespaces here, of the node image that its AMI or snapshot is tagged with, with the address that the cloud
gave it, and a metadata service that knows what the cloud knows. Stopped there is off here, deleted there is removed here with all it wrote.
This network is the clouds' router: the first address of each subnet, the routes of the route tables, the load balancers and their names.

To be run by tests/support/bodies/world, in a network of its own. Says "ready", then a line whatever it does; ends with SIGTERM, and leaves nothing.
"""
import argparse
import asyncio
import os
import signal
import sys
import time
import traceback

from balancer import Balancers, Names
from body import BRIDGE, BRIDGE_MAC, NAMESERVER, Body, Cgroups, run
from metadata import Metadata

LOOK_S = 0.5
ROUTES_OF = "98"  # the protocol that marks routes of ours


def say(text):
    print(f"{time.strftime('%T')} {text}", flush=True)


def sysctl(name, value):
    with open("/proc/sys/" + name.replace(".", "/"), "w", encoding="ascii") as file:
        file.write(value)


class Network:
    """The bridge, and on it the addresses and routes that machines need."""

    def __init__(self):
        # One of its own: else it has the least of its ports' and another when that port goes, and machines send to the one they knew for half a minute.
        run("ip", "link", "add", BRIDGE, "address", BRIDGE_MAC, "type", "bridge")
        sysctl("net.ipv4.ip_forward", "1")
        for name in ("all", BRIDGE):  # what comes from a machine may go back to one, and nobody is told of a shorter way
            sysctl(f"net.ipv4.conf.{name}.send_redirects", "0")
            sysctl(f"net.ipv4.conf.{name}.rp_filter", "0")
        run("ip", "link", "set", BRIDGE, "up")
        self.addresses, self.routes = {}, {}
        self.set({"169.254.169.254/32", NAMESERVER + "/32"}, {})

    def set(self, addresses, routes):
        for address in set(self.addresses) - addresses:
            run("ip", "address", "delete", address, "dev", BRIDGE, check=False)
            del self.addresses[address]
        for address in sorted(addresses - set(self.addresses)):
            run("ip", "address", "replace", address, "dev", BRIDGE)
            self.addresses[address] = True
        for destination in [d for d in self.routes if d not in routes]:
            run("ip", "route", "delete", destination, "proto", ROUTES_OF, check=False)
            del self.routes[destination]
        for destination, via in routes.items():
            if destination not in self.routes or self.routes[destination] != via:
                run("ip", "route", "replace", destination, *(["via", via, "onlink"] if via else []), "dev", BRIDGE, "proto", ROUTES_OF)
                self.routes[destination] = via
                say(f"route {destination} via {via or BRIDGE}")

    def remove(self):
        run("ip", "link", "delete", BRIDGE, check=False)


class Bodies:
    def __init__(self, options):
        self.options, self.network, self.cgroups = options, Network(), Cgroups(os.environ.get("BODIES_CGROUP", f"kprov-bodies-{os.getpid()}"))
        self.bodies, self.busy, self.ended, self.metadata, self.balancers, self.names = {}, {}, set(), Metadata(), Balancers(), Names()

    def work(self, server_id, what, *words):
        """One thing at a time is done to a body, off the loop: stopping takes seconds."""
        async def go():
            try:
                await asyncio.to_thread(what, *words)
            except Exception:  # pylint: disable=broad-except
                say(f"{server_id}: {traceback.format_exc()}")
            finally:
                del self.busy[server_id]
        self.busy[server_id] = asyncio.get_running_loop().create_task(go())

    def follow_server(self, server):
        body = self.bodies.get(server.id)
        if server.id in self.busy:
            return
        if not body:
            body = self.bodies[server.id] = Body(server, self.options.folder, self.options.images, self.cgroups)
        if server.running and body.process is None and server.id not in self.ended:
            say(f"start {server.name} ({server.id}) at {server.address}")
            self.work(server.id, body.start, server)
        elif server.running and body.process is not None and not body.is_on():
            say(f"{server.name} ({server.id}) went off by itself")
            self.ended.add(server.id)
            self.work(server.id, body.kill)
        elif not server.running and body.process is not None:
            say(f"stop {server.name} ({server.id})")
            self.work(server.id, body.stop)
        if not server.running:
            self.ended.discard(server.id)

    async def follow(self, snapshot):
        for number in [n for n in self.bodies if n not in snapshot.servers and n not in self.busy]:
            say(f"remove {number}")
            self.work(number, self.bodies.pop(number).remove)
        self.metadata.tell({server.address: server.facts for server in snapshot.servers.values()})
        addresses = {"169.254.169.254/32", NAMESERVER + "/32"} | snapshot.gateways
        listeners, names = {}, {}
        for balancer in snapshot.balancers:
            addresses |= {f"{address}/32" for address in balancer.addresses if not address.startswith("127.")}
            names.update({name: balancer.addresses for name in balancer.names})
            for address in balancer.addresses:
                listeners.update({(protocol, address, port): what for (protocol, port), what in balancer.ports.items()})
        routes = dict(snapshot.routes)
        for server in snapshot.servers.values():  # a machine whose network is one address is on the bridge all the same
            if server.prefix == 32:
                routes[server.address + "/32"] = None
        # Machines first, then what leads to them.
        self.network.set(addresses, dict(sorted(routes.items(), key=lambda item: item[1] is not None)))
        await self.balancers.set(listeners)
        self.names.table = names
        for server in snapshot.servers.values():
            self.follow_server(server)

    async def close(self):
        for task in list(self.busy.values()):
            await task
        for body in self.bodies.values():
            body.remove()
        await self.balancers.set({})
        self.cgroups.remove()
        self.network.remove()


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cloud", choices=("aws", "hetzner"), required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--images", default=os.environ.get("KPROV_IMAGE_DIR", "/var/lib/kprov/images"))
    options = parser.parse_args()
    if options.cloud == "aws":
        from aws import Aws as Cloud
    else:
        from hetzner_cloud import Hetzner as Cloud
    cloud, bodies, over = Cloud(options.url), Bodies(options), asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, over.set)
    await loop.create_datagram_endpoint(lambda: bodies.names, local_addr=(NAMESERVER, 53))
    say("ready")
    while not over.is_set():
        try:
            snapshot = await asyncio.to_thread(cloud.look)
            if snapshot:
                await bodies.follow(snapshot)
        except Exception:  # pylint: disable=broad-except
            say(traceback.format_exc())  # a cloud that does not answer is asked again
        try:
            await asyncio.wait_for(over.wait(), LOOK_S)
        except asyncio.TimeoutError:
            pass
    await bodies.close()
    say("over")


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    asyncio.run(main())
