"""What a cloud's API says should be there, in one form for all clouds."""
from dataclasses import dataclass, field


@dataclass
class Server:
    id: str
    name: str
    image: str  # id of the node image, by the tag of what it was started from
    address: str
    prefix: int
    gateway: str
    running: bool
    facts: dict = field(default_factory=dict)  # of the metadata service: {path: text or bytes}


@dataclass
class Balancer:
    names: list
    addresses: list
    ports: dict = field(default_factory=dict)  # {("TCP" or "UDP", port): ([(address, port)], PROXY protocol's version or 0)}


@dataclass
class Snapshot:
    servers: dict = field(default_factory=dict)  # {id: Server}
    gateways: set = field(default_factory=set)  # {"address/prefix"}
    routes: dict = field(default_factory=dict)  # {destination: machine's address}
    balancers: list = field(default_factory=list)
