"""AWS as moto has it, seen through its API by boto3: instances, subnets, route tables, network load balancers."""
import base64
import ipaddress
import os

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from cloud import Balancer, Server, Snapshot

BALANCERS = ipaddress.ip_network("198.18.1.0/24")  # where moto's balancers, which have no address there, are found here


def tags(thing, key="Tags"):
    return {tag["Key"]: tag["Value"] for tag in thing.get(key, [])}


class Aws:
    def __init__(self, url):
        region = os.environ.get("AWS_REGION") or os.environ["AWS_DEFAULT_REGION"]
        config = Config(retries={"max_attempts": 2}, connect_timeout=5, read_timeout=20)
        self.ec2 = boto3.client("ec2", endpoint_url=url, region_name=region, config=config)
        self.elb = boto3.client("elbv2", endpoint_url=url, region_name=region, config=config)
        self.images, self.user_data, self.types, self.balancer_addresses = {}, {}, {}, {}

    def image(self, ami):
        if ami not in self.images:
            found = self.ec2.describe_images(ImageIds=[ami])["Images"]
            self.images[ami] = tags(found[0]).get("kprov-image", "") if found else ""
        return self.images[ami]

    def facts(self, instance):
        number = instance["InstanceId"]
        if number not in self.user_data:
            said = self.ec2.describe_instance_attribute(InstanceId=number, Attribute="userData")
            self.user_data[number] = base64.b64decode(said["UserData"].get("Value", ""))
        zone = instance["Placement"]["AvailabilityZone"]
        return {
            "/latest/user-data": self.user_data[number], "/latest/meta-data/instance-id": number,
            "/latest/meta-data/instance-type": instance["InstanceType"], "/latest/meta-data/local-ipv4": instance["PrivateIpAddress"],
            "/latest/meta-data/local-hostname": instance.get("PrivateDnsName", ""), "/latest/meta-data/placement/availability-zone": zone,
            "/latest/meta-data/placement/region": zone[:-1], "/latest/meta-data/ami-id": instance["ImageId"],
        }

    def servers(self, snapshot):
        subnets = {}
        for subnet in self.ec2.describe_subnets()["Subnets"]:
            subnets[subnet["SubnetId"]] = ipaddress.ip_network(subnet["CidrBlock"])
        for page in self.ec2.get_paginator("describe_instances").paginate():
            for instance in (i for reservation in page["Reservations"] for i in reservation["Instances"]):
                state = instance["State"]["Name"]
                if state in ("terminated", "shutting-down"):
                    continue
                subnet = subnets[instance["SubnetId"]]
                snapshot.gateways.add(f"{subnet[1]}/{subnet.prefixlen}")
                snapshot.servers[instance["InstanceId"]] = Server(
                    id=instance["InstanceId"], name=tags(instance).get("Name", instance["InstanceId"]), image=self.image(instance["ImageId"]),
                    address=instance["PrivateIpAddress"], prefix=subnet.prefixlen, gateway=str(subnet[1]), running=state in ("pending", "running"),
                    facts=self.facts(instance))

    def routes(self, snapshot):
        interfaces = None
        for table in self.ec2.describe_route_tables()["RouteTables"]:
            for route in table["Routes"]:
                via = None
                if route.get("NetworkInterfaceId"):
                    if interfaces is None:
                        interfaces = {i["NetworkInterfaceId"]: i["PrivateIpAddress"] for i in self.ec2.describe_network_interfaces()["NetworkInterfaces"]}
                    via = interfaces.get(route["NetworkInterfaceId"])
                elif route.get("InstanceId") in snapshot.servers:
                    via = snapshot.servers[route["InstanceId"]].address
                if via and route.get("DestinationCidrBlock"):
                    snapshot.routes[route["DestinationCidrBlock"]] = via

    def balancer_address(self, arn):
        if arn not in self.balancer_addresses:
            self.balancer_addresses[arn] = str(BALANCERS[1 + len(self.balancer_addresses) % 250])
        return self.balancer_addresses[arn]

    def balancers(self, snapshot):
        for found in self.elb.describe_load_balancers()["LoadBalancers"]:
            arn = found["LoadBalancerArn"]
            balancer = Balancer(names=[found["DNSName"].lower()], addresses=[self.balancer_address(arn)])
            for listener in self.elb.describe_listeners(LoadBalancerArn=arn)["Listeners"]:
                for action in listener["DefaultActions"]:
                    if "TargetGroupArn" not in action:
                        continue
                    group = action["TargetGroupArn"]
                    health = self.elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
                    settings = {a["Key"]: a["Value"] for a in self.elb.describe_target_group_attributes(TargetGroupArn=group)["Attributes"]}
                    targets = sorted((h["Target"]["Id"], h["Target"]["Port"]) for h in health)
                    proxy = 2 if settings.get("proxy_protocol_v2.enabled") == "true" else 0
                    for protocol in listener["Protocol"].split("_"):
                        balancer.ports[protocol, listener["Port"]] = (targets, proxy)
            snapshot.balancers.append(balancer)

    def look(self):
        snapshot = Snapshot()
        try:
            self.servers(snapshot)
            self.routes(snapshot)
            self.balancers(snapshot)
        except ClientError as error:  # something went between two questions: the next look sees what is there then
            if "NotFound" not in error.response["Error"]["Code"]:
                raise
            return None
        return snapshot
