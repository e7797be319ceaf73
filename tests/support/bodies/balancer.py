"""Data path of a cloud's load balancers: listeners on addresses of this network that hand connections to their targets in turn; and the names."""
import asyncio
import socket
import struct

CONNECT_S_MAX = 2
CHUNK = 1 << 16


def proxy_header(version, peer, local):
    """The PROXY protocol's: version 1 is a line, 2 is binary (haproxy's proxy-protocol.txt, 2.1 and 2.2)."""
    if version == 1:
        return f"PROXY TCP4 {peer[0]} {local[0]} {peer[1]} {local[1]}\r\n".encode()
    addresses = socket.inet_aton(peer[0]) + socket.inet_aton(local[0]) + struct.pack("!HH", peer[1], local[1])
    return b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", 0x21, 0x11, len(addresses)) + addresses


async def copy(reader, writer):
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()


class TcpListener:
    def __init__(self, address, port):
        self.address, self.port, self.targets, self.proxy, self.turn, self.server, self.tasks = address, port, [], 0, 0, None, set()

    async def open(self):
        self.server = await asyncio.start_server(self.begin, self.address, self.port, reuse_address=True)

    def begin(self, reader, writer):
        task = asyncio.get_running_loop().create_task(self.serve(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def close(self):
        self.server.close()
        for task in self.tasks:
            task.cancel()

    async def connect(self):
        targets = list(self.targets)
        self.turn += 1
        for i in range(len(targets)):
            try:
                return await asyncio.wait_for(asyncio.open_connection(*targets[(self.turn + i) % len(targets)]), CONNECT_S_MAX)
            except (OSError, asyncio.TimeoutError):
                continue
        return None

    async def serve(self, reader, writer):
        other = await self.connect()
        try:
            if other:
                if self.proxy:
                    other[1].write(proxy_header(self.proxy, writer.get_extra_info("peername"), writer.get_extra_info("sockname")))
                await asyncio.gather(copy(reader, other[1]), copy(other[0], writer))
        finally:
            writer.close()
            if other:
                other[1].close()


class UdpListener(asyncio.DatagramProtocol):
    """A socket a client, so that answers find their way back."""

    def __init__(self, address, port):
        self.address, self.port, self.targets, self.proxy, self.turn, self.clients = address, port, [], 0, 0, {}

    async def open(self):
        self.transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, local_addr=(self.address, self.port))

    def close(self):
        self.transport.close()
        for task in self.clients.values():
            task.cancel()

    def datagram_received(self, data, peer):
        asyncio.get_running_loop().create_task(self.forward(data, peer))

    async def forward(self, data, peer):
        if peer not in self.clients and self.targets:
            self.turn += 1
            target = self.targets[self.turn % len(self.targets)]
            self.clients[peer] = asyncio.get_running_loop().create_task(
                asyncio.get_running_loop().create_datagram_endpoint(lambda: Answers(self.transport, peer), remote_addr=target))
        if peer in self.clients:
            transport, _ = await self.clients[peer]
            transport.sendto(data)


class Answers(asyncio.DatagramProtocol):
    def __init__(self, back, peer):
        self.back, self.peer = back, peer

    def datagram_received(self, data, _):
        self.back.sendto(data, self.peer)


class Balancers:
    """Makes the listeners what they should be; {(protocol, address, port): (targets, proxy version)}."""

    def __init__(self):
        self.listeners = {}

    async def set(self, wanted):
        for key in [key for key in self.listeners if key not in wanted]:
            self.listeners.pop(key).close()
        for key, (targets, proxy) in wanted.items():
            if key not in self.listeners:
                listener = (TcpListener if key[0] == "TCP" else UdpListener)(key[1], key[2])
                await listener.open()
                self.listeners[key] = listener
            self.listeners[key].targets, self.listeners[key].proxy = targets, proxy


class Names(asyncio.DatagramProtocol):
    """A name server that knows A records of `table` ({name: [addresses]}) and nothing else (RFC 1035)."""

    def __init__(self):
        self.table = {}

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        if len(data) < 17 or data[2] & 0x80 or struct.unpack("!H", data[4:6])[0] != 1:
            return
        labels, at = [], 12
        while at < len(data) and data[at]:
            labels.append(data[at + 1:at + 1 + data[at]].decode("ascii", "replace").lower())
            at += 1 + data[at]
        question = data[12:at + 5]
        if len(question) < at - 12 + 5:
            return
        known = self.table.get(".".join(labels))
        is_a = question[-4:-2] == b"\0\1"
        answers = [b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 5, 4) + socket.inet_aton(a) for a in known or []] if is_a else []
        flags = 0x8580 if known is not None else 0x8583
        self.transport.sendto(data[:2] + struct.pack("!HHHHH", flags, 1, len(answers), 0, 0) + question + b"".join(answers), peer)
