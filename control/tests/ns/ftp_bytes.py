"""Fetches a file by FTP, each command one byte at a time: ftp_bytes.py ADDRESS PORT MODE FILE TARGET"""

import ftplib
import socket
import sys

address, port, mode, name, target = sys.argv[1:]


class Client(ftplib.FTP):
    # What 227 names is called.
    trust_server_pasv_ipv4_address = True

    def putline(self, line):
        for byte in (line + ftplib.CRLF).encode(self.encoding):
            self.sock.sendall(bytes([byte]))

    def makepasv(self):
        if mode == "EPSV":
            return ftplib.parse229(self.sendcmd("EPSV"), self.sock.getpeername())
        return super().makepasv()

    def sendport(self, host, port):
        if mode == "EPRT":
            return self.sendeprt(host, port)
        return super().sendport(host, port)


client = Client(timeout=30)
client.connect(address, int(port))
client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
client.set_pasv(mode in ("PASV", "EPSV"))
client.login()
with open(target, "wb") as file:
    client.retrbinary("RETR " + name, file.write, blocksize=65536)
client.quit()
