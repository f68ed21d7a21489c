"""Stands between an RTSP client and its server: rtsp_bytes.py ADDRESS PORT HOST PORT CUT [SOURCE]

CUT is what it sends byte by byte, requests or replies. The others it sends on whole: gst-rtsp, at both ends, gives up ("Parse
error") where a line's end comes in two. SOURCE is the address that it seems to call the server from."""

import re
import socket
import sys
import threading

address, port, host, host_port, cut, *source = sys.argv[1:]
IP_TRANSPARENT = 19


def is_whole(message):
    head, end, body = message.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length:\s*([0-9]+)", head)
    return end and len(body) >= int(length.group(1) if length else 0)


def in_bytes(come, go):
    while data := come.recv(65536):
        for byte in data:
            go.sendall(bytes([byte]))
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
    requests, replies = (in_bytes, whole) if cut == "requests" else (whole, in_bytes)
    threading.Thread(target=requests, args=(client, server), daemon=True).start()
    threading.Thread(target=replies, args=(server, client), daemon=True).start()
