#!/usr/bin/env python3
# A Hetzner Cloud API in memory, for tests of lib/cloud/hetzner: what a project holds, its actions, limits and errors.
"""
  hetzner.py [--token T] [--readonly-token T] [--ticks N] [--image NODE_IMAGE]... [--port-file FILE] [--host ADDRESS]
             [--public 127.113]

Public addresses begin with --public. Prints the port it listens on (of 127.0.0.1, or ADDRESS), and ends with its standard input. No clock decides anything: an action is running until N
further requests were answered. Field names, status and error codes are those of the published API description.

Requests below /_fake/ are for tests: POST reset; POST no-faults; POST set {"ticks", "rate_limit", "limits": {...}, "unhealthy": [server ids]}; POST fault {"match": "POST
/servers", "kind": "status"|"lost"|"reset"|"action"|"body", "status", "code", "body", "times"}; GET log; POST image {"labels"}; GET state: servers, networks,
load balancers, SSH keys and images as they are, user data too.
"""
import argparse
import ipaddress
import json
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

CREATED = "2026-01-30T23:55:00+00:00"
PER_PAGE_MAX = 50
USER_DATA_MAX = 32768
LABEL_KEY = re.compile(r"^([a-z0-9A-Z]([-_.a-z0-9A-Z]{0,253}[a-z0-9A-Z])?/)?[a-z0-9A-Z]([-_.a-z0-9A-Z]{0,61}[a-z0-9A-Z])?$")
LABEL_VALUE = re.compile(r"^([a-z0-9A-Z]([-_.a-z0-9A-Z]{0,61}[a-z0-9A-Z])?)?$")
HOST_NAME = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$")
PRIVATE = [ipaddress.ip_network(n) for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]


class ApiError(Exception):
    def __init__(self, status, code, message, details=None):
        super().__init__(message)
        self.status, self.body = status, {"error": {"code": code, "message": message, "details": details}}


class NotTheApi(ApiError):
    """What a proxy on the way answers."""

    def __init__(self, status):
        super().__init__(status, "", "")
        self.body = {"message": "somebody else"}


def invalid(field, why):
    return ApiError(422, "invalid_input", f"invalid input in field '{field}'", {"fields": [{"name": field, "messages": [why]}]})


def location(number, name, zone, country, city):
    return {"id": number, "name": name, "description": f"{city} DC Park 1", "country": country, "city": city, "latitude": 50.47612,
            "longitude": 12.370071, "network_zone": zone}


LOCATIONS = [location(1, "fsn1", "eu-central", "DE", "Falkenstein"), location(2, "nbg1", "eu-central", "DE", "Nuremberg"),
             location(3, "hel1", "eu-central", "FI", "Helsinki"), location(4, "ash", "us-east", "US", "Ashburn, VA")]


def money(amount):
    return {"net": f"{amount}.0000000000", "gross": f"{amount}.1900000000000000"}


def server_type(number, name, cores, memory, disk, architecture="x86", deprecation=None, locations=("fsn1", "nbg1", "hel1", "ash")):
    where = [place for place in LOCATIONS if place["name"] in locations]
    return {"id": number, "name": name, "description": name.upper(), "cores": cores, "memory": memory, "disk": disk, "deprecated": deprecation is not None,
            "deprecation": deprecation, "category": "Shared vCPU", "storage_type": "local", "cpu_type": "shared", "architecture": architecture,
            "prices": [{"location": place["name"], "price_hourly": money(1), "price_monthly": money(5), "included_traffic": 654321,
                        "price_per_tb_traffic": money(1)} for place in where],
            "locations": [{"id": place["id"], "name": place["name"], "deprecation": None} for place in where]}


GONE = {"announced": "2025-06-01T00:00:00+00:00", "unavailable_after": "2025-09-01T00:00:00+00:00"}
SERVER_TYPES = [server_type(22, "cx11", 1, 2.0, 20, deprecation=GONE), server_type(104, "cx22", 2, 4.0, 40), server_type(105, "cx32", 4, 8.0, 80),
                server_type(45, "cax11", 2, 4.0, 40, "arm"), server_type(96, "ccx13", 2, 8.0, 80, locations=("fsn1",))]


def balancer_type(number, name, services, targets, connections):
    return {"id": number, "name": name, "description": name.upper(), "max_connections": connections, "max_services": services, "max_targets": targets,
            "max_assigned_certificates": 10, "deprecated": None,
            "prices": [{"location": place["name"], "price_hourly": money(1), "price_monthly": money(5), "included_traffic": 654321,
                        "price_per_tb_traffic": money(1)} for place in LOCATIONS]}


BALANCER_TYPES = [balancer_type(1, "lb11", 5, 25, 10000), balancer_type(2, "lb21", 15, 75, 20000), balancer_type(3, "lb31", 30, 150, 40000)]
KINDS = {"servers": "server", "networks": "network", "firewalls": "firewall", "placement_groups": "placement_group", "primary_ips": "primary_ip",
         "load_balancers": "load_balancer", "images": "image", "server_types": "server_type", "locations": "location",
         "load_balancer_types": "load_balancer_type", "ssh_keys": "ssh_key"}
LABELLED = ("ssh_keys", "servers", "networks", "firewalls", "placement_groups", "primary_ips", "load_balancers", "images")


def matches(selector, labels):
    for part in filter(None, (p.strip() for p in selector.split(","))):
        if m := re.fullmatch(r"([^=!,\s]+)\s*(==|=|!=)\s*(\S*)", part):
            key, operator, value = m.groups()
            if (labels.get(key) == value) == (operator == "!="):
                return False
        elif part.startswith("!"):
            if part[1:] in labels:
                return False
        elif not LABEL_KEY.match(part):
            raise invalid("label_selector", "label selector is not valid")
        elif part not in labels:
            return False
    return True


def node_image(number, labels, **more):
    return {"id": number, "type": "snapshot", "status": "available", "name": None, "description": "node image", "image_size": 0.4, "disk_size": 20,
            "created": CREATED, "created_from": None, "bound_to": None, "os_flavor": "unknown", "os_version": None, "rapid_deploy": False,
            "protection": {"delete": False}, "deprecated": None, "deleted": None, "labels": labels, "architecture": "x86", **more}


class Project:
    """What one token sees, and the rules of changing it."""

    def __init__(self, ticks, public):
        self.ticks, self.public, self.next_id, self.next_public = ticks, public, 4711, 1
        self.things = {kind: {} for kind in KINDS}
        self.things["locations"] = {x["id"]: x for x in LOCATIONS}
        self.things["server_types"] = {x["id"]: x for x in SERVER_TYPES}
        self.things["load_balancer_types"] = {x["id"]: x for x in BALANCER_TYPES}
        self.actions, self.running, self.unhealthy = {}, [], set()
        self.limits = {"servers": 100, "load_balancers": 20, "networks": 50, "placement_groups": 50, "firewalls": 50, "primary_ips": 100, "routes": 100, "ssh_keys": 100}
        self.fail_action = None

    # ---- what all kinds have
    def new_id(self):
        self.next_id += 1
        return self.next_id

    def public_address(self):
        self.next_public += 1
        return f"{self.public}.{self.next_public // 250}.{self.next_public % 250 + 1}"

    def get(self, kind, number):
        thing = self.things[kind].get(int(number)) if str(number).isdigit() else None
        if thing is None:
            raise ApiError(404, "not_found", f"{KINDS[kind]} with ID '{number}' not found")
        return thing

    def find(self, kind, name_or_id, field):
        for thing in self.things[kind].values():
            if str(name_or_id) in (str(thing["id"]), thing.get("name")):
                return thing
        raise invalid(field, f"{KINDS[kind]} '{name_or_id}' does not exist") if field else ApiError(404, "not_found", f"{KINDS[kind]} not found")

    def check_new(self, kind, body):
        name = body.get("name")
        if not isinstance(name, str) or not name:
            raise invalid("name", "is required")
        if kind == "servers" and (not HOST_NAME.match(name) or len(name) > 253):
            raise invalid("name", "must be a valid hostname")
        for key, value in (body.get("labels") or {}).items():
            self.check_label(key, value)
        if any(thing["name"] == name for thing in self.things[kind].values()):
            raise ApiError(409, "uniqueness_error", f"{KINDS[kind]} name is already used", {"fields": [{"name": "name"}]})
        if len(self.things[kind]) >= self.limits[kind]:
            raise ApiError(403, "resource_limit_exceeded", f"{KINDS[kind]} limit exceeded", {"limits": [{"name": KINDS[kind] + "_limit"}]})

    @staticmethod
    def check_label(key, value):
        if not LABEL_KEY.match(key) or not isinstance(value, str) or not LABEL_VALUE.match(value):
            raise invalid("labels", f"label {key}={value} is not valid")

    def change(self, kind, thing, body):
        if "labels" in body:
            for key, value in body["labels"].items():
                self.check_label(key, value)
            thing["labels"] = dict(body["labels"])
        if "name" in body:
            thing["name"] = body["name"]
        return thing

    # ---- actions
    def action(self, command, effect=None, *resources):
        """effect(worked) when it is over; resources: (kind, id), locked until then."""
        action = {"id": self.new_id(), "command": command, "status": "running", "progress": 0, "started": CREATED, "finished": None, "error": None,
                  "resources": [{"id": number, "type": kind} for kind, number in resources]}
        self.actions[action["id"]] = action
        self.running.append([self.ticks, action, effect])
        if self.ticks == 0:
            self.tick()
        return dict(action)

    def tick(self):
        for entry in list(self.running):
            if entry[0] > 0:
                entry[0] -= 1
                continue
            self.running.remove(entry)
            action = entry[1]
            failure, self.fail_action = (self.fail_action, None) if self.fail_action and self.fail_action[0] == action["command"] else (None, self.fail_action)
            if failure:
                action.update(status="error", error={"code": failure[1], "message": f"{failure[1]} as the test asked"})
            else:
                action["status"] = "success"
            if entry[2]:
                entry[2](not failure)
            action.update(progress=100, finished=CREATED)

    def check_free(self, kind, thing):
        busy = any({"id": thing["id"], "type": KINDS[kind]} in entry[1]["resources"] for entry in self.running)
        if busy and kind == "networks":
            raise ApiError(409, "conflict", "the network has changed during the request, please retry")
        if busy:
            raise ApiError(423, "locked", f"{KINDS[kind]} is locked")

    # ---- servers
    def create_server(self, body):
        self.check_new("servers", body)
        kind = self.find("server_types", body.get("server_type"), "server_type")
        image = self.find("images", body.get("image"), "image")
        place = self.find("locations", body.get("location", "fsn1"), "location")
        if place["name"] not in [x["name"] for x in kind["locations"]]:
            raise ApiError(412, "resource_unavailable", f"{kind['name']} is not available in {place['name']}")
        if len(body.get("user_data") or "") > USER_DATA_MAX:
            raise invalid("user_data", f"Length must be between 0 and {USER_DATA_MAX}.")
        if kind["architecture"] != image["architecture"]:
            raise invalid("image", "image and server type have different architectures")
        group = self.get("placement_groups", body["placement_group"]) if body.get("placement_group") else None
        if group and len(group["servers"]) >= 10:
            raise ApiError(412, "placement_error", "no physical server of the group's rules is free")
        net = body.get("public_net") or {}
        number, address = self.new_id(), None
        if net.get("enable_ipv4", True):
            primary = self.get("primary_ips", net["ipv4"]) if net.get("ipv4") else None
            if primary and primary["assignee_id"]:
                raise ApiError(409, "primary_ip_assigned", "the primary IP is assigned already")
            if primary and primary["location"]["name"] != place["name"]:
                raise ApiError(422, "primary_ip_datacenter_mismatch", "the primary IP is elsewhere")
            if not primary:
                primary = self.primary_ip(f"primary_ip-{self.next_id}", place, {}, True)
            primary["assignee_id"] = number
            address = {"id": primary["id"], "ip": primary["ip"], "blocked": False, "dns_ptr": f"static.{primary['ip']}.clients.example.com"}
        server = {"id": number, "name": body["name"], "status": "initializing", "created": CREATED, "server_type": kind, "location": place,
                  "datacenter": {"id": place["id"], "name": place["name"] + "-dc14", "description": place["description"], "location": place,
                                 "server_types": {"supported": [], "available": [], "available_for_migration": []}},
                  "image": image, "iso": None, "rescue_enabled": False, "locked": False, "backup_window": None, "outgoing_traffic": 0, "ingoing_traffic": 0,
                  "included_traffic": 654321, "protection": {"delete": False, "rebuild": False}, "labels": dict(body.get("labels") or {}), "volumes": [],
                  "load_balancers": [], "primary_disk_size": kind["disk"], "placement_group": group, "private_net": [],
                  "public_net": {"ipv4": address, "ipv6": None, "floating_ips": [],
                                 "firewalls": [{"id": self.get("firewalls", f["firewall"])["id"], "status": "applied"} for f in body.get("firewalls", [])]}}
        server["#user_data"] = body.get("user_data")
        server["#ssh_keys"] = [self.find("ssh_keys", key, "ssh_keys")["public_key"] for key in body.get("ssh_keys", [])]
        self.things["servers"][number] = server
        if group:
            group["servers"].append(number)
        start = body.get("start_after_create", True)
        first = self.action("create_server", lambda worked: server.update(status="running" if start and worked else "off"), ("server", number))
        return {"server": server, "action": first, "next_actions": [], "root_password": "YItygq1v3GYjjMomLaKc"}

    def delete_server(self, server):
        self.check_free("servers", server)

        def go(worked):
            if not worked:
                server["status"] = "off"
                return
            self.things["servers"].pop(server["id"], None)
            for network in self.things["networks"].values():
                network["servers"] = [n for n in network["servers"] if n != server["id"]]
            for group in self.things["placement_groups"].values():
                group["servers"] = [n for n in group["servers"] if n != server["id"]]
            for address in list(self.things["primary_ips"].values()):
                if address["assignee_id"] == server["id"]:
                    address["assignee_id"] = None
                    if address["auto_delete"]:
                        del self.things["primary_ips"][address["id"]]
            for balancer in self.things["load_balancers"].values():
                balancer["targets"] = [t for t in balancer["targets"] if t.get("server", {}).get("id") != server["id"]]
        server["status"] = "deleting"
        return {"action": self.action("delete_server", go, ("server", server["id"]))}

    def server_action(self, server, verb, body):
        self.check_free("servers", server)
        if verb in ("poweron", "poweroff", "shutdown"):
            name, status = {"poweron": ("start_server", "running"), "poweroff": ("stop_server", "off"), "shutdown": ("shutdown_server", "off")}[verb]
            return {"action": self.action(name, lambda worked: worked and server.update(status=status), ("server", server["id"]))}
        if verb == "enable_rescue":
            if body.get("type", "linux64") != "linux64":
                raise invalid("type", "must be linux64")
            server["#rescue_keys"] = [self.get("ssh_keys", key)["public_key"] for key in body.get("ssh_keys", [])]
            return {"action": self.action("enable_rescue", lambda worked: worked and server.update(rescue_enabled=True), ("server", server["id"])),
                    "root_password": "zCWbFhnu950dUTko5f40"}
        if verb == "reset":
            if server["status"] == "off":
                raise ApiError(412, "server_error", "the server is off")
            return {"action": self.action("reset_server", lambda worked: worked and server.update(status="running"), ("server", server["id"]))}
        if verb == "create_image":
            return self.create_image(server, body)
        if verb == "attach_to_network":
            network = self.get("networks", body.get("network"))
            self.check_free("networks", network)
            if any(net["network"] == network["id"] for net in server["private_net"]):
                raise ApiError(422, "server_already_attached", "the server is attached to the network already")
            address = self.network_address(network, body.get("ip"), server["location"]["network_zone"])
            number = server["id"] % 0xffffff
            net = {"network": network["id"], "ip": address, "alias_ips": [], "mac_address": "86:00:00:%02x:%02x:%02x" %
                   (number >> 16, number >> 8 & 255, number & 255)}
            server["#pending_net"] = net

            def settle(worked):
                server.pop("#pending_net")
                if worked:
                    server["private_net"].append(net)
                    network["servers"].append(server["id"])
            return {"action": self.action("attach_to_network", settle, ("server", server["id"]), ("network", network["id"]))}
        raise ApiError(404, "not_found", f"no action {verb}")

    def create_image(self, server, body):
        if body.get("type", "snapshot") != "snapshot":
            raise invalid("type", "only snapshots are made here")
        for key, value in (body.get("labels") or {}).items():
            self.check_label(key, value)
        image = node_image(self.new_id(), dict(body.get("labels") or {}), status="creating", image_size=None, description=body.get("description", ""),
                           created_from={"id": server["id"], "name": server["name"]}, disk_size=server["primary_disk_size"])
        self.things["images"][image["id"]] = image

        def settle(worked):
            if worked:
                image.update(status="available", image_size=0.4)
            else:
                self.things["images"].pop(image["id"], None)
        return {"image": image, "action": self.action("create_image", settle, ("server", server["id"]), ("image", image["id"]))}

    def create_ssh_key(self, body):
        self.check_new("ssh_keys", body)
        text = body.get("public_key")
        if not isinstance(text, str) or not re.match(r"^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp256) [A-Za-z0-9+/=]+", text):
            raise invalid("public_key", "is not a public key")
        if any(key["public_key"].split()[1] == text.split()[1] for key in self.things["ssh_keys"].values()):
            raise ApiError(409, "uniqueness_error", "SSH key with the same fingerprint already exists")
        key = {"id": self.new_id(), "name": body["name"], "fingerprint": "b7:2f:30:a0:2f:6c:58:6c:21:04:58:61:ba:06:3b:2f", "public_key": text.strip(),
               "labels": dict(body.get("labels") or {}), "created": CREATED}
        self.things["ssh_keys"][key["id"]] = key
        return {"ssh_key": key}

    # ---- networks
    def network_address(self, network, wanted, zone):
        taken = {net["ip"] for kind in ("servers", "load_balancers") for thing in self.things[kind].values()
                 for net in thing["private_net"] + [thing.get("#pending_net") or {"network": 0}] if net["network"] == network["id"]}
        first = ipaddress.ip_network(network["ip_range"])[1]
        for subnet in network["subnets"]:
            inside = ipaddress.ip_network(subnet["ip_range"])
            if subnet["network_zone"] != zone:
                continue
            if wanted and ipaddress.ip_address(wanted) in inside:
                if wanted in taken or ipaddress.ip_address(wanted) in (first, inside.network_address, inside.broadcast_address):
                    raise ApiError(422, "ip_not_available", f"IP {wanted} is not available")
                return wanted
            for host in inside.hosts() if not wanted else ():
                if str(host) not in taken and host != first:
                    return str(host)
        raise ApiError(422, "ip_not_available" if wanted else "no_subnet_available", "no subnet or IP is available")

    def check_range(self, field, text, least):
        try:
            net = ipaddress.ip_network(text)
        except ValueError:
            raise invalid(field, "must be a CIDR")
        if net.prefixlen > least or not any(net.subnet_of(private) for private in PRIVATE):
            raise invalid(field, "must be a private network of RFC 1918")
        return net

    def create_network(self, body):
        self.check_new("networks", body)
        self.check_range("ip_range", body.get("ip_range"), 24)
        network = {"id": self.new_id(), "name": body["name"], "ip_range": body["ip_range"], "subnets": [], "routes": [], "servers": [], "load_balancers": [],
                   "protection": {"delete": False}, "labels": dict(body.get("labels") or {}), "created": CREATED, "expose_routes_to_vswitch": False}
        for subnet in body.get("subnets", []):
            self.add_subnet(network, subnet)
        self.things["networks"][network["id"]] = network
        return {"network": network}

    def add_subnet(self, network, body):
        inside = self.check_range("ip_range", body.get("ip_range"), 30)
        if not inside.subnet_of(ipaddress.ip_network(network["ip_range"])):
            raise invalid("ip_range", "must be within the network's")
        if body.get("network_zone") not in {place["network_zone"] for place in LOCATIONS}:
            raise invalid("network_zone", "is not one of the network zones")
        if body.get("type") not in ("cloud", "server", "vswitch"):
            raise invalid("type", "must be cloud, server or vswitch")
        if any(ipaddress.ip_network(s["ip_range"]).overlaps(inside) for s in network["subnets"]):
            raise invalid("ip_range", "overlaps with another subnet")
        network["subnets"].append({"type": body["type"], "ip_range": body["ip_range"], "network_zone": body["network_zone"],
                                   "gateway": str(ipaddress.ip_network(network["ip_range"])[1]), "vswitch_id": None})

    def network_action(self, network, verb, body):
        self.check_free("networks", network)
        route = {key: body.get(key) for key in ("destination", "gateway")}
        if verb == "add_subnet":
            self.add_subnet(network, body)
        elif verb == "add_route":
            target = self.check_range("destination", body.get("destination"), 32)
            if any(ipaddress.ip_network(s["ip_range"]).overlaps(target) for s in network["subnets"]):
                raise invalid("destination", "overlaps with a subnet")
            if any(ipaddress.ip_network(r["destination"]).overlaps(target) for r in network["routes"]):
                raise invalid("destination", "overlaps with another route")
            if ipaddress.ip_address(body.get("gateway")) == ipaddress.ip_network(network["ip_range"])[1]:
                raise invalid("gateway", "cannot be the first address of the network")
            if len(network["routes"]) >= self.limits["routes"]:
                raise ApiError(403, "resource_limit_exceeded", "route limit exceeded", {"limits": [{"name": "network_route_limit"}]})
            network["routes"].append(route)
        elif verb == "delete_route":
            if route not in network["routes"]:
                raise ApiError(404, "not_found", "route not found")
            network["routes"].remove(route)
        else:
            raise ApiError(404, "not_found", f"no action {verb}")
        return {"action": self.action(verb, None, ("network", network["id"]))}

    # ---- the smaller kinds
    def create_firewall(self, body):
        self.check_new("firewalls", body)
        firewall = {"id": self.new_id(), "name": body["name"], "labels": dict(body.get("labels") or {}), "created": CREATED, "rules": self.rules(body),
                    "applied_to": []}
        self.things["firewalls"][firewall["id"]] = firewall
        return {"firewall": firewall, "actions": []}

    @staticmethod
    def rules(body):
        ret = []
        for i, rule in enumerate(body.get("rules", [])):
            if rule.get("direction") not in ("in", "out") or rule.get("protocol") not in ("tcp", "udp", "icmp", "esp", "gre"):
                raise invalid(f"rules.{i}", "direction or protocol")
            if (rule["protocol"] in ("tcp", "udp")) != bool(rule.get("port")):
                raise invalid(f"rules.{i}.port", "is for tcp and udp")
            for source in rule.get("source_ips", []):
                ipaddress.ip_network(source)
            ret.append({"direction": rule["direction"], "protocol": rule["protocol"], "port": rule.get("port"), "source_ips": rule.get("source_ips", []),
                        "destination_ips": rule.get("destination_ips", []), "description": rule.get("description")})
        return ret

    def firewall_action(self, firewall, verb, body):
        if verb != "set_rules":
            raise ApiError(404, "not_found", f"no action {verb}")
        firewall["rules"] = self.rules(body)
        return {"actions": [self.action("set_firewall_rules", None, ("firewall", firewall["id"]))]}

    def delete_firewall(self, firewall):
        if any(f["id"] == firewall["id"] for server in self.things["servers"].values() for f in server["public_net"]["firewalls"]):
            raise ApiError(422, "resource_in_use", "the firewall is in use")
        del self.things["firewalls"][firewall["id"]]

    def create_placement_group(self, body):
        self.check_new("placement_groups", body)
        if body.get("type") != "spread":
            raise invalid("type", "must be spread")
        group = {"id": self.new_id(), "name": body["name"], "labels": dict(body.get("labels") or {}), "type": "spread", "servers": [], "created": CREATED}
        self.things["placement_groups"][group["id"]] = group
        return {"placement_group": group, "action": None}

    def primary_ip(self, name, place, labels, auto_delete):
        address = {"id": self.new_id(), "name": name, "ip": self.public_address(), "type": "ipv4", "location": place, "labels": labels, "created": CREATED,
                   "datacenter": {"id": place["id"], "name": place["name"] + "-dc14", "description": place["description"], "location": place,
                                  "server_types": {"supported": [], "available": [], "available_for_migration": []}},
                   "assignee_id": None, "assignee_type": "server", "auto_delete": auto_delete, "blocked": False, "dns_ptr": [], "protection": {"delete": False}}
        self.things["primary_ips"][address["id"]] = address
        return address

    def create_primary_ip(self, body):
        self.check_new("primary_ips", body)
        if body.get("type") != "ipv4" or body.get("assignee_type") != "server":
            raise invalid("type", "must be ipv4, for a server")
        place = self.find("locations", body.get("location"), "location")
        return {"primary_ip": self.primary_ip(body["name"], place, dict(body.get("labels") or {}), body.get("auto_delete", False))}

    def delete_primary_ip(self, address):
        if address["assignee_id"]:
            raise ApiError(422, "primary_ip_assigned", "the primary IP is assigned")
        del self.things["primary_ips"][address["id"]]

    # ---- load balancers
    def service(self, body, old=None):
        body = {**(old or {}), **body}
        if body.get("protocol") not in ("tcp", "http", "https"):
            raise invalid("protocol", "must be tcp, http or https")
        ret = {"protocol": body["protocol"], "proxyprotocol": bool(body.get("proxyprotocol"))}
        for field in ("listen_port", "destination_port"):
            ret[field] = body.get(field)
            if not isinstance(ret[field], int) or not 1 <= ret[field] <= 65535:
                raise invalid(field, "must be a port")
        check = {**((old or {}).get("health_check") or {}), **(body.get("health_check") or {})}
        check = check or {"protocol": "tcp", "port": ret["destination_port"], "interval": 15, "timeout": 10, "retries": 3}
        for field, low, high in (("port", 1, 65535), ("interval", 3, 60), ("timeout", 1, 60), ("retries", 1, 5)):
            if not isinstance(check.get(field), int) or not low <= check[field] <= high:
                raise invalid(f"health_check.{field}", f"must be {low} to {high}")
        if check["timeout"] > check["interval"] or check.get("protocol") not in ("tcp", "http"):
            raise invalid("health_check", "timeout or protocol")
        if check["protocol"] == "tcp":
            check.pop("http", None)
        else:
            check["http"] = {"domain": None, "response": "", "tls": False, "status_codes": ["2??", "3??"], **check.get("http", {})}
        return {**ret, "health_check": check}

    def target(self, balancer, body):
        if body.get("type") != "server":
            raise ApiError(422, "cloud_resource_ip_not_allowed", "targets are servers here")
        server, private = self.get("servers", body.get("server", {}).get("id")), bool(body.get("use_private_ip"))
        networks = {net["network"] for net in balancer["private_net"]}
        if private and not networks:
            raise ApiError(422, "load_balancer_not_attached_to_network", "the load balancer is not attached to a network")
        if private and not networks & {net["network"] for net in server["private_net"]}:
            raise ApiError(422, "server_not_attached_to_network", "the server is not attached to the load balancer's network")
        if any(t["server"]["id"] == server["id"] for t in balancer["targets"]):
            raise ApiError(422, "target_already_defined", "the target is defined already")
        if len(balancer["targets"]) >= balancer["load_balancer_type"]["max_targets"]:
            raise ApiError(403, "resource_limit_exceeded", "target limit exceeded", {"limits": [{"name": "load_balancer_target_limit"}]})
        return {"type": "server", "server": {"id": server["id"]}, "use_private_ip": private, "label_selector": None, "ip": None}

    def create_load_balancer(self, body):
        self.check_new("load_balancers", body)
        place = self.find("locations", body["location"], "location") if body.get("location") else None
        zone = place["network_zone"] if place else body.get("network_zone")
        place = place or next((x for x in LOCATIONS if x["network_zone"] == zone), None)
        if not place:
            raise invalid("network_zone", "or location is required")
        balancer = {"id": self.new_id(), "name": body["name"], "labels": dict(body.get("labels") or {}), "created": CREATED, "location": place,
                    "load_balancer_type": self.find("load_balancer_types", body.get("load_balancer_type"), "load_balancer_type"),
                    "algorithm": {"type": (body.get("algorithm") or {}).get("type", "round_robin")}, "private_net": [], "protection": {"delete": False},
                    "public_net": {"enabled": body.get("public_interface", True), "ipv4": {"ip": self.public_address(), "dns_ptr": ""},
                                   "ipv6": {"ip": "2001:db8::1", "dns_ptr": ""}},
                    "services": [], "targets": [], "included_traffic": 654321, "ingoing_traffic": 0, "outgoing_traffic": 0}
        balancer["services"] = [self.service(s) for s in body.get("services", [])]
        self.things["load_balancers"][balancer["id"]] = balancer
        return {"load_balancer": balancer, "action": self.action("create_load_balancer", None, ("load_balancer", balancer["id"]))}

    def balancer_action(self, balancer, verb, body):
        self.check_free("load_balancers", balancer)
        services = balancer["services"]
        at = next((i for i, s in enumerate(services) if s["listen_port"] == body.get("listen_port")), None)
        if verb == "add_service":
            if at is not None:
                raise ApiError(422, "source_port_already_used", "the listen port is used already")
            if len(services) >= balancer["load_balancer_type"]["max_services"]:
                raise ApiError(403, "resource_limit_exceeded", "service limit exceeded", {"limits": [{"name": "load_balancer_service_limit"}]})
            services.append(self.service(body))
        elif verb in ("update_service", "delete_service") and at is None:
            raise ApiError(404, "not_found", "service not found")
        elif verb == "update_service":
            services[at] = self.service(body, services[at])
        elif verb == "delete_service":
            del services[at]
        elif verb == "add_target":
            balancer["targets"].append(self.target(balancer, body))
        elif verb == "remove_target":
            left = [t for t in balancer["targets"] if t["server"]["id"] != body.get("server", {}).get("id")]
            if len(left) == len(balancer["targets"]):
                raise ApiError(404, "not_found", "target not found")
            balancer["targets"] = left
        elif verb == "attach_to_network":
            network = self.get("networks", body.get("network"))
            if balancer["private_net"]:
                raise ApiError(422, "load_balancer_already_attached", "the load balancer is attached already")
            address = self.network_address(network, body.get("ip"), balancer["location"]["network_zone"])
            balancer["private_net"] = [{"network": network["id"], "ip": address}]
            network["load_balancers"].append(balancer["id"])
        elif verb == "detach_from_network":
            if any(t["use_private_ip"] for t in balancer["targets"]):
                raise ApiError(422, "targets_without_use_private_ip", "targets use the network")
            balancer["private_net"] = []
        elif verb == "change_algorithm":
            if body.get("type") not in ("round_robin", "least_connections"):
                raise invalid("type", "must be round_robin or least_connections")
            balancer["algorithm"] = {"type": body["type"]}
        elif verb == "change_type":
            kind = self.find("load_balancer_types", body.get("load_balancer_type"), "load_balancer_type")
            if kind["max_services"] < len(services) or kind["max_targets"] < len(balancer["targets"]):
                raise ApiError(422, "invalid_load_balancer_type", "the type does not fit")
            balancer["load_balancer_type"] = kind
        elif verb in ("enable_public_interface", "disable_public_interface"):
            if verb.startswith("disable") and not balancer["private_net"]:
                raise ApiError(422, "load_balancer_not_attached_to_network", "the load balancer is not attached to a network")
            balancer["public_net"]["enabled"] = verb.startswith("enable")
        else:
            raise ApiError(404, "not_found", f"no action {verb}")
        return {"action": self.action(verb, None, ("load_balancer", balancer["id"]))}

    def show(self, kind, thing):
        thing = {key: value for key, value in thing.items() if not key.startswith("#")}
        if kind == "load_balancers":
            thing["targets"] = [{**t, "health_status": [{"listen_port": s["listen_port"],
                                                         "status": "unhealthy" if t["server"]["id"] in self.unhealthy else "healthy"} for s in thing["services"]]}
                                for t in thing["targets"]]
        return thing

    # ---- requests
    def list(self, kind, query):
        page, per_page = int(query.get("page", ["1"])[0]), int(query.get("per_page", ["25"])[0])
        if page < 1 or not 1 <= per_page <= PER_PAGE_MAX:
            raise invalid("per_page", f"must be 1 to {PER_PAGE_MAX}")
        found = [thing for thing in self.things[kind].values()
                 if all(thing.get(field) in query[field] for field in ("name", "type", "status", "architecture", "ip") if field in query)
                 and (kind not in LABELLED or matches(query.get("label_selector", [""])[0], thing["labels"]))]
        last = max(1, -(-len(found) // per_page))
        meta = {"pagination": {"page": page, "per_page": per_page, "previous_page": page - 1 if page > 1 else None,
                               "next_page": page + 1 if page < last else None, "last_page": last, "total_entries": len(found)}}
        return 200, {kind: [self.show(kind, thing) for thing in found[(page - 1) * per_page:page * per_page]], "meta": meta}

    def answer(self, method, path, query, body):
        parts = path.strip("/").split("/")
        kind = parts[0]
        if kind == "actions" and method == "GET" and len(parts) == 2:
            action = self.actions.get(int(parts[1])) if parts[1].isdigit() else None
            if not action:
                raise ApiError(404, "not_found", "action not found")
            return 200, {"action": action}
        if kind not in KINDS:
            raise ApiError(404, "not_found", "no such path")
        if len(parts) == 1 and method == "GET":
            return self.list(kind, query)
        if len(parts) == 1 and method == "POST" and hasattr(self, "create_" + KINDS[kind]):
            made = getattr(self, "create_" + KINDS[kind])(body)
            made[KINDS[kind]] = self.show(kind, made[KINDS[kind]])
            return 201, made
        if len(parts) == 2:
            return self.answer_one(method, kind, self.get(kind, parts[1]), body)
        if len(parts) == 4 and parts[2] == "actions" and method == "POST":
            act = {"servers": self.server_action, "networks": self.network_action, "load_balancers": self.balancer_action,
                   "firewalls": self.firewall_action}.get(kind)
            if act:
                return 201, act(self.get(kind, parts[1]), parts[3], body)
        raise ApiError(404, "not_found", "no such path")

    def answer_one(self, method, kind, thing, body):
        if method == "GET":
            return 200, {KINDS[kind]: self.show(kind, thing)}
        if method == "PUT" and kind in LABELLED:
            if kind == "networks":
                self.check_free(kind, thing)
            return 200, {KINDS[kind]: self.show(kind, self.change(kind, thing, body))}
        if method == "DELETE" and kind == "servers":
            return 200, self.delete_server(thing)
        if method == "DELETE" and kind == "firewalls":
            return 204, self.delete_firewall(thing)
        if method == "DELETE" and kind == "primary_ips":
            return 204, self.delete_primary_ip(thing)
        if method == "DELETE" and kind in LABELLED:
            self.check_free(kind, thing)
            if kind == "networks":
                for net_kind in ("servers", "load_balancers"):
                    for other in self.things[net_kind].values():
                        other["private_net"] = [net for net in other["private_net"] if net["network"] != thing["id"]]
            del self.things[kind][thing["id"]]
            return 204, None
        raise ApiError(404, "not_found", "no such method")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, options):
        super().__init__((options.host, 0), Handler)
        self.options, self.lock = options, threading.Lock()
        self.reset()

    def reset(self):
        self.project = Project(self.options.ticks, self.options.public)
        self.log, self.faults, self.rate_limit, self.remaining = [], [], 3600, 3600
        self.project.things["images"][1] = node_image(1, {}, type="system", name="debian-12", description="Debian 12", os_flavor="debian", os_version="12",
                                                      rapid_deploy=True)
        for image in self.options.image:
            self.add_image({"kprov-image": image})

    def add_image(self, labels, **more):
        number = self.project.new_id()
        self.project.things["images"][number] = node_image(number, labels, **more)
        return number


class Handler(BaseHTTPRequestHandler):
    protocol_version, wbufsize, disable_nagle_algorithm = "HTTP/1.1", 65536, True

    def log_message(self, *_):
        pass

    def send(self, status, body, headers=()):
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def fake(self, path, body):
        server = self.server
        if path == "set":
            server.project.ticks = body.get("ticks", server.project.ticks)
            server.project.limits.update(body.get("limits", {}))
            server.project.unhealthy = set(body.get("unhealthy", server.project.unhealthy))
            if "rate_limit" in body:
                server.rate_limit = server.remaining = body["rate_limit"]
            return {}
        if path == "reset":
            server.reset()
            return {}
        if path == "no-faults":
            server.faults = []
            return {}
        if path == "fault":
            server.faults.append(dict(body))
            return {}
        if path == "image":
            return {"id": server.add_image(body.pop("labels", {}), **body)}
        if path == "user_data":
            return {"user_data": server.project.get("servers", body["server"]).get("#user_data")}
        if path == "state":
            return {kind: list(server.project.things[kind].values()) for kind in ("servers", "networks", "load_balancers", "ssh_keys", "images")}
        return {"log": server.log}

    def fault(self, line):
        for fault in self.server.faults:
            if re.fullmatch(fault["match"], line) and fault.get("times", 1) > 0:
                if fault.get("skip", 0) > 0:
                    fault["skip"] -= 1
                    continue
                fault["times"] = fault.get("times", 1) - 1
                return fault
        return None

    def limited(self):
        """Counts a request; the headers, and whether it is one too many. A refused one gives a request back, as a second would."""
        server = self.server
        over = server.remaining <= 0
        server.remaining += 1 if over else -1
        reset = int(time.time()) + (server.rate_limit - server.remaining) * 3600 // max(server.rate_limit, 1)
        return over, [("RateLimit-Limit", str(server.rate_limit)), ("RateLimit-Remaining", str(0 if over else server.remaining)), ("RateLimit-Reset", str(reset))]

    def check_token(self, method):
        given = self.headers.get("Authorization", "")
        if given == "Bearer " + self.server.options.readonly_token:
            if method != "GET":
                raise ApiError(403, "token_readonly", "the token is only allowed to perform GET requests")
        elif given != "Bearer " + self.server.options.token:
            raise ApiError(401, "unauthorized", "unable to authenticate")

    def serve(self):
        server, url = self.server, urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with server.lock:
            if url.path.startswith("/_fake/"):
                return self.send(200, self.fake(url.path[7:], json.loads(raw or b"{}")))
            path = url.path[3:] if url.path.startswith("/v1/") else "/" + "none"
            line = f"{self.command} {path}"
            server.log.append(line + ("?" + url.query if url.query else ""))
            over, headers = self.limited()
            fault = self.fault(line)
            try:
                self.check_token(self.command)
                if over:
                    raise ApiError(429, "rate_limit_exceeded", "limit of requests per hour reached")
                if fault and fault["kind"] == "status":
                    raise ApiError(fault["status"], fault["code"], fault["code"] + " as the test asked") if fault["code"] else NotTheApi(fault["status"])
                if fault and fault["kind"] == "reset":
                    self.close_connection = True
                    return self.connection.close()
                if fault and fault["kind"] == "action":
                    server.project.fail_action = (fault["command"], fault["code"])
                server.project.tick()
                try:
                    body = json.loads(raw) if raw else {}
                except ValueError:
                    raise ApiError(400, "json_error", "the body is no JSON")
                status, answer = server.project.answer(self.command, path, parse_qs(url.query, keep_blank_values=True), body)
                if fault and fault["kind"] == "body":
                    answer = fault["body"]
            except ApiError as error:
                status, answer = error.status, error.body
            if fault and fault["kind"] == "lost":
                self.close_connection = True
                return self.connection.close()
            self.send(status, answer, headers)

    do_GET = do_POST = do_PUT = do_DELETE = serve


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--token", default="secret-of-a-test")
    parser.add_argument("--readonly-token", default="readonly-of-a-test")
    parser.add_argument("--ticks", type=int, default=2)
    parser.add_argument("--image", action="append", default=[])
    parser.add_argument("--port-file")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--public", default="127.113")  # nothing leaves this machine
    options = parser.parse_args()
    server = Server(options)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    if options.port_file:
        with open(options.port_file + ".new", "w", encoding="ascii") as file:
            file.write(str(server.server_port))
        import os
        os.rename(options.port_file + ".new", options.port_file)
    print(server.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
