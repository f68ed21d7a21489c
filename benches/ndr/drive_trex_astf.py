#!/usr/bin/env python3
"""Drives a TRex server in its stateful mode (ASTF) for postern-ndr: new sessions a second, and sessions at once.

    postern-ndr other --suite new-udp,new-tcp,sessions,sessions-tcp -- benches/ndr/drive_trex_astf.py \\
        --server 192.0.2.10 --clients 10.1.0.10-10.1.0.250 --servers 198.51.100.2-198.51.100.9

TRex must run in that mode (t-rex-64 -i --astf), and its Python library must be on PYTHONPATH
(automation/trex_control_plane/interactive in its folder). Port 0 is on the clients' side, port 1 on the servers'; the server's
configuration (port_info) gives each its gateway. TRex's servers answer whoever has asked them, so a gateway may translate.

A client's stack repeats what is lost, so that a connection may come about after all: what is counted is what TRex counts of
connections and datagrams, not frames. --object gives the bytes that each connection of a new-session trial asks for and gets
(RFC 9411, section 7.2, has 1, 2, 4, 16 and 64 KB); without it, it is opened and closed.
"""

import math
import time

from drive_trex import Refused, about, arguments, serve

# The servers' port.
PORT = 9
# Bytes that held connections say, each way.
SAID = b"held"
# TRex takes no lower rate of new flows.
SLOWEST = 0.5
# TRex's programs wait for no more than 32 bits of microseconds; some are left for what follows.
LONGEST = 4000
# Seconds between two looks at a trial that goes on.
LOOK = 0.5


class Trex:
    def __init__(self, api, args):
        self.api = api
        self.args = args
        self.client = api.ASTFClient(server=args.server)
        self.client.connect()
        self.client.reset()

    def about(self):
        reply = about(self.client, [self.args.client_port, self.args.server_port])
        return {**reply, "name": reply["name"] + " (ASTF)"}

    def open(self, flows):
        raise Refused(f"stateful sessions begin and end with their trial, so no {flows} flows stay open: "
                      "drive_trex.py makes the trials of established traffic")

    def connection(self):
        """Programs of a connection that is opened and closed, with an object in between if that is wanted."""
        client, server = self.api.ASTFProgram(), self.api.ASTFProgram()
        client.connect()
        server.accept()
        if self.args.object:
            request = b"GET"
            client.send(request)
            server.recv(len(request))
            server.send(b"o" * self.args.object)
        # Nothing is waited for until the connection is there.
        client.recv(self.args.object)
        server.wait_for_peer_close()
        return client, server

    def held_connection(self, hold):
        """Programs of a connection that says something after so long, gets an answer, and is closed."""
        client, server = self.api.ASTFProgram(), self.api.ASTFProgram()
        client.connect()
        client.delay(int(hold * 1e6))
        client.send(SAID)
        client.recv(len(SAID))
        server.accept()
        server.recv(len(SAID))
        server.send(SAID)
        server.wait_for_peer_close()
        return client, server

    def datagrams(self, hold, patience):
        """Programs of one datagram there, and after so long one back."""
        client, server = self.api.ASTFProgram(stream=False), self.api.ASTFProgram(stream=False)
        for program in (client, server):
            # Nobody repeats anything meanwhile.
            program.set_keepalive_msg(int(patience * 1000))
        client.send_msg(SAID)
        client.recv_msg(1)
        server.recv_msg(1)
        if hold:
            server.delay(int(hold * 1e6))
        server.send_msg(SAID)
        return client, server

    def profile(self, programs, rate, count):
        api, args = self.api, self.args
        addresses = api.ASTFIPGen(glob=api.ASTFIPGenGlobal(ip_offset="1.0.0.0"),
                                  dist_client=api.ASTFIPGenDist(ip_range=list(args.clients), distribution="seq"),
                                  dist_server=api.ASTFIPGenDist(ip_range=list(args.servers), distribution="seq"))
        client, server = programs
        ours = api.ASTFTCPClientTemplate(program=client, ip_gen=addresses, port=PORT, cps=max(rate, SLOWEST), limit=count)
        theirs = api.ASTFTCPServerTemplate(program=server, assoc=api.ASTFAssociationRule(port=PORT))
        template = api.ASTFTemplate(client_template=ours, server_template=theirs)
        return api.ASTFProfile(default_ip_gen=addresses, templates=template)

    def run(self, programs, rate, count, seconds, patience):
        """Begins so many sessions at the rate, and waits until all have ended or patience has. What clients counted, what
        servers did, and the most sessions that were there at once."""
        client = self.client
        client.reset()
        client.load_profile(self.profile(programs, rate, count))
        client.clear_stats()
        client.start(mult=1, duration=seconds)
        until = time.monotonic() + patience
        most = 0
        while client.is_traffic_active() and time.monotonic() < until:
            time.sleep(min(LOOK, self.args.look))
            most = max(most, client.get_stats()["traffic"]["client"].get("m_est_flows", 0))
        traffic = client.get_stats()["traffic"]
        client.stop()
        client.clear_profile()
        # Counters that are zero are left out.
        return traffic["client"], traffic["server"], most

    def new(self, tcp, rate, seconds):
        count = max(1, math.ceil(rate * seconds))
        patience = seconds + self.args.drain
        programs = self.connection() if tcp else self.datagrams(0, patience)
        client, _, _ = self.run(programs, rate, count, seconds, patience)
        if not tcp:
            return self.outcome(client.get("udps_sndpkt", 0), client.get("udps_rcvpkt", 0), seconds)
        # What broke off has not come to its close.
        whole = client.get("tcps_connects", 0) - client.get("tcps_drops", 0)
        if self.args.object:
            whole = min(whole, client.get("tcps_rcvbyte", 0) // self.args.object)
        return self.outcome(client.get("tcps_connattempt", 0), whole, seconds)

    def hold(self, tcp, sessions, rate):
        opening = sessions / rate
        # Whoever comes first still waits when the last has come.
        hold = opening + self.args.drain
        if hold > LONGEST:
            raise Refused(f"{sessions} sessions at {rate:.0f} a second take longer than TRex can wait: give a higher --open")
        patience = opening + hold + self.args.drain
        programs = self.held_connection(hold) if tcp else self.datagrams(hold, patience)
        # A little longer than it takes: the limit ends it.
        client, _, most = self.run(programs, rate, sessions, opening * 1.1 + 1, patience)
        print(f"{most} of {sessions} sessions were seen at once")
        if tcp:
            return self.outcome(client.get("tcps_connattempt", 0), client.get("tcps_rcvbyte", 0) // len(SAID), opening, sessions)
        return self.outcome(client.get("udps_sndpkt", 0), client.get("udps_rcvpkt", 0), opening, sessions)

    @staticmethod
    def outcome(offered, returned, seconds, wanted=0):
        """Sessions that TRex had no place for were not held either: they count as offered."""
        offered = max(offered, wanted)
        return {"offered": offered, "returned": max(0, min(returned, offered)), "wrong": 0, "seconds": seconds}

    def trial(self, trial):
        load = trial["load"]
        tcp = load.get("transport") == "tcp"
        if load["kind"] == "new":
            return self.new(tcp, trial["rate"], trial["seconds"])
        if load["kind"] == "hold":
            return self.hold(tcp, load["sessions"], trial["rate"])
        raise Refused(f"stateful sessions make no trial of the kind `{load['kind']}`: drive_trex.py does")


def main():
    parser = arguments(__doc__)
    parser.add_argument("--object", type=int, default=0, help="bytes that each new connection asks for")
    parser.add_argument("--look", type=float, default=LOOK, help="seconds between two looks at a trial")
    args = parser.parse_args()

    def start():
        from trex.astf import api  # pylint: disable=import-outside-toplevel
        return Trex(api, args)

    serve(start)


if __name__ == "__main__":
    main()
