"""Hetzner Cloud as tests/support/hetzner.py has it. Its state is read whole, so that looking neither counts as requests nor moves its actions on."""
import ipaddress
import json
import urllib.request

from cloud import Balancer, Server, Snapshot


class Hetzner:
    def __init__(self, url):
        self.url = url

    def facts(self, server, data):
        place = server["location"]
        networks = [{"ip": net["ip"], "mac_address": net["mac_address"]} for net in server["private_net"]]
        public = server["public_net"]["ipv4"]["ip"] if server["public_net"]["ipv4"] else ""
        lines = [f"instance-id: {server['id']}", f"hostname: {server['name']}", f"region: {place['network_zone']}",
                 f"availability-zone: {server['datacenter']['name']}", f"public-ipv4: {public}"]
        lines += ["private-networks:"] + [f"- ip: {net['ip']}\n  mac_address: {net['mac_address']}" for net in networks]
        return {
            "/hetzner/v1/userdata": data, "/hetzner/v1/metadata": "\n".join(lines) + "\n", "/hetzner/v1/metadata/instance-id": str(server["id"]),
            "/hetzner/v1/metadata/hostname": server["name"], "/hetzner/v1/metadata/region": place["network_zone"],
            "/hetzner/v1/metadata/availability-zone": server["datacenter"]["name"],
        }

    def look(self):
        with urllib.request.urlopen(f"{self.url}/_fake/state", timeout=10) as answer:
            state = json.load(answer)
        snapshot, networks = Snapshot(), {network["id"]: network for network in state["networks"]}
        for network in state["networks"]:
            # Every machine has a /32: all goes through the network's first address, which routes.
            snapshot.gateways.add(f"{ipaddress.ip_network(network['ip_range'])[1]}/32")
            snapshot.routes.update({route["destination"]: route["gateway"] for route in network["routes"]})
        addresses = {}
        for server in state["servers"]:
            if not server["private_net"] or server["private_net"][0]["network"] not in networks:
                continue
            net = server["private_net"][0]
            addresses[server["id"]] = net["ip"]
            snapshot.servers[str(server["id"])] = Server(
                id=str(server["id"]), name=server["name"], image=server["image"]["labels"].get("kprov-image", ""), address=net["ip"], prefix=32,
                gateway=str(ipaddress.ip_network(networks[net["network"]]["ip_range"])[1]), running=server["status"] == "running",
                facts=self.facts(server, server["#user_data"] or ""))
        for found in state["load_balancers"]:
            balancer = Balancer(names=[], addresses=[net["ip"] for net in found["private_net"]])
            if found["public_net"]["enabled"]:
                balancer.addresses.append(found["public_net"]["ipv4"]["ip"])
            targets = [addresses[t["server"]["id"]] for t in found["targets"] if t["type"] == "server" and t["server"]["id"] in addresses]
            for service in found["services"]:
                balancer.ports["TCP", service["listen_port"]] = ([(t, service["destination_port"]) for t in targets], 2 if service["proxyprotocol"] else 0)
            snapshot.balancers.append(balancer)
        return snapshot
