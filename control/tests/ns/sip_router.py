"""A registrar and a proxy that stays in the dialogs that it begins (RFC 3261 §16.6): sip_router.py ADDRESS

It brings requests where the contact, or the route, says, and answers where their Via says; over TCP answers go back by the
connection of their request. It says whom it has registered, what it has passed on, and where it got no further."""

import hashlib
import re
import selectors
import socket
import sys

ADDRESS, PORT = sys.argv[1], 5060
COMPACT = {"v": "via", "f": "from", "t": "to", "i": "call-id", "m": "contact", "l": "content-length"}

contacts = {}
links = {}  # by where they lead, of those that this made
came_by = {}  # where the request came from, by the branch that it went on with
selector = selectors.DefaultSelector()


def say(*words):
    print(*words, flush=True)


class Message:
    def __init__(self, text):
        head, _, self.body = text.partition("\r\n\r\n")
        self.first, *lines = head.split("\r\n")
        self.headers = []
        for line in lines:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            self.headers.append((COMPACT.get(name, name), value.strip()))

    def all(self, name):
        return [value for n, value in self.headers if n == name]

    def get(self, name):
        return next(iter(self.all(name)), None)

    def pop(self, name):
        place = next(i for i, (n, _) in enumerate(self.headers) if n == name)
        return self.headers.pop(place)[1]

    def push(self, name, value):
        self.headers.insert(0, (name, value))

    def bytes(self):
        lines = [self.first] + [f"{name}: {value}" for name, value in self.headers]
        return ("\r\n".join(lines) + "\r\n\r\n" + self.body).encode()


def place(uri):
    host, port = re.search(r"sip:(?:[^@>;]*@)?([0-9.]+)(?::([0-9]+))?", uri).groups()
    return host, int(port or 5060)


def user(uri):
    return re.search(r"sip:([^@>;]*)@", uri).group(1)


def transport(uri):
    return "tcp" if ";transport=tcp" in uri.lower() else "udp"


def branch(via):
    return re.search(r";branch=([^;]+)", via).group(1)


class Link:
    """A connection, and what has come by it."""

    def __init__(self, connection):
        self.connection, self.buffer = connection, ""
        selector.register(connection, selectors.EVENT_READ, self.read)

    def send(self, data):
        self.connection.sendall(data)

    def read(self):
        try:
            data = self.connection.recv(65536)
        except OSError:
            data = b""
        if not data:
            selector.unregister(self.connection)
            self.connection.close()
            for where in [where for where, link in links.items() if link is self]:
                del links[where]
            return
        self.buffer += data.decode()
        while True:
            self.buffer = self.buffer.lstrip("\r\n")
            head, end, rest = self.buffer.partition("\r\n\r\n")
            if not end:
                return
            length = int(re.search(r"(?im)^(?:content-length|l)\s*:\s*([0-9]+)", head).group(1))
            if len(rest) < length:
                return
            self.buffer = rest[length:]
            handle(head + end + rest[:length], self.connection.getpeername(), self)


class Datagrams:
    """The other end of a datagram."""

    def __init__(self, where):
        self.where = where

    def send(self, data):
        datagrams.sendto(data, self.where)


def lead(over, where):
    if over == "udp":
        return Datagrams(where)
    if where not in links:
        links[where] = Link(socket.create_connection(where, 3, (ADDRESS, 0)))
    return links[where]


def answer(request, status, back, more=()):
    reply = Message(f"SIP/2.0 {status}\r\n\r\n")
    for name in ("via", "from", "to", "call-id", "cseq"):
        for value in request.all(name):
            tagged = name != "to" or ";tag=" in value
            reply.headers.append((name, value if tagged else value + ";tag=router"))
    reply.headers += [*more, ("content-length", "0")]
    back.send(reply.bytes())


def register(request, back):
    contact = request.get("contact")
    who, uri = user(request.get("to")), re.search(r"<([^>]*)>", contact).group(1)
    expires = re.search(r";expires=([0-9]+)", contact)
    expires = expires.group(1) if expires else request.get("expires") or "3600"
    if expires == "0":
        contacts.pop(who, None)
    else:
        contacts[who] = uri
        say("registered", who, "at", uri)
    answer(request, "200 OK", back, [("contact", contact), ("expires", expires)])


def bring(request, method, back):
    if request.get("route") and place(request.get("route")) == (ADDRESS, PORT):
        request.pop("route")
    uri = request.first.split()[1]
    if place(uri) == (ADDRESS, PORT):
        uri = contacts.get(user(uri))
        if not uri:
            return answer(request, "404 Not Found", back)
        request.first = f"{method} {uri} SIP/2.0"
    target = request.get("route") or uri
    over, where = transport(target), place(target)
    mark = "z9hG4bK" + hashlib.sha1(branch(request.get("via")).encode()).hexdigest()[:16]
    came_by[mark] = back
    onward = Message(request.bytes().decode())
    onward.push("via", f"SIP/2.0/{over.upper()} {ADDRESS}:{PORT};branch={mark}")
    if method == "INVITE":
        onward.push("record-route", f"<sip:{ADDRESS}:{PORT};transport={over};lr>")
    try:
        lead(over, where).send(onward.bytes())
        say(method, "to", "%s:%d" % where)
    except OSError as error:
        say("unreachable", "%s:%d:" % where, error)
        if method != "ACK":
            answer(request, "503 Service Unavailable", back)


def bring_back(response):
    mark = branch(response.pop("via"))
    via = response.get("via")
    if not via:
        return
    if via.startswith("SIP/2.0/TCP"):
        try:
            came_by[mark].send(response.bytes())
        except OSError as error:
            say("no way back:", error)
        return
    # RFC 3261 §18.2.2, RFC 3581 §4.
    host, port = place("sip:" + via.split()[1])
    received, rport = re.search(r";received=([0-9.]+)", via), re.search(r";rport=([0-9]+)", via)
    where = (received.group(1) if received else host, int(rport.group(1)) if rport else port)
    Datagrams(where).send(response.bytes())


def handle(text, source, back):
    message = Message(text)
    if message.first.startswith("SIP/2.0 "):
        return bring_back(message)
    via = re.sub(r";rport(?=;|$)", f";rport={source[1]};received={source[0]}", message.pop("via"))
    message.push("via", via)
    method = message.first.split()[0]
    if method == "REGISTER":
        register(message, back)
    else:
        bring(message, method, back)


def read_datagram():
    data, source = datagrams.recvfrom(65536)
    if data.strip():
        handle(data.decode(), source, Datagrams(source))


datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.bind((ADDRESS, PORT))
selector.register(datagrams, selectors.EVENT_READ, read_datagram)
listener = socket.create_server((ADDRESS, PORT))
selector.register(listener, selectors.EVENT_READ, lambda: Link(listener.accept()[0]))
while True:
    for key, _ in selector.select():
        key.data()
