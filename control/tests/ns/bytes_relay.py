"""Stands between a client and its server: bytes_relay.py ADDRESS PORT HOST PORT CUT [SOURCE]

CUT is what it sends byte by byte: requests, replies or both. The others it sends on whole: gst-rtsp, at both ends, gives up
("Parse error") where a line's end comes in two. SOURCE is the address that it seems to call the server from."""

import fcntl
import re
import socket
import struct
import sys
import termios
import threading
import time

address, port, host, host_port, cut, *source = sys.argv[1:]
IP_TRANSPARENT = 19
# As many bytes on their way, and the kernel puts those that follow together; and how long an answer is waited for.
MOST_UNANSWERED, PATIENCE = 4, 0.003


def wait_for_answers(end):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        (unanswered,) = struct.unpack("i", fcntl.ioctl(end, termios.TIOCOUTQ, b"\0" * 4))
        if unanswered < MOST_UNANSWERED:
            return
        time.sleep(0.0002)


def is_whole(message):
    head, end, body = message.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length:\s*([0-9]+)", head)
    return end and len(body) >= int(length.group(1) if length else 0)


def in_bytes(come, go):
    while data := come.recv(65536):
        for byte in data:
            go.sendall(bytes([byte]))
            wait_for_answers(go)
    go.shutdown(socket.SHUT_WR)


def whole(come, go):
    message = b""
    while data := come.recv(65536):
        message += data
        if is_whole(message):
            go.sendall(message)
            message = b""
    go.shutdown(socket.SHUT_WR)


def connect():
    server = socket.socket()
    if source:
        server.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
        server.bind((source[0], 0))
    server.connect((host, int(host_port)))
    return server


listener = socket.create_server((address, int(port)))
while True:
    client, _ = listener.accept()
    server = connect()
    for end in (client, server):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    requests, replies = [in_bytes if cut in (what, "both") else whole for what in ("requests", "replies")]
    threading.Thread(target=requests, args=(client, server), daemon=True).start()
    threading.Thread(target=replies, args=(server, client), daemon=True).start()
