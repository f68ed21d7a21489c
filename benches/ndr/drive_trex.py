#!/usr/bin/env python3
"""Drives a TRex server (stateless mode) for postern-ndr: one JSON object a line in, one out.

    postern-ndr other --suite throughput,latency -- benches/ndr/drive_trex.py --server 192.0.2.10 \
        --clients 10.1.0.10-10.1.0.250 --servers 198.51.100.2-198.51.100.9

TRex's Python library must be on PYTHONPATH (automation/trex_control_plane/interactive in its folder). Port 0 is on the
clients' side, port 1 on the servers'; give each its gateway in the server's configuration (port_info), or run `service`
and `l3` in its console first.

Stateless streams know nothing of a translation that the gateway chooses, so traffic goes from the clients alone unless
--no-nat says that there is none, and there are no trials of sessions: drive_trex_astf.py does these, by TRex's stateful mode.
"""

import argparse
import ipaddress
import json
import sys

# The stream that carries time stamps: frames a second, and its number.
LATENCY_PPS = 1000
LATENCY_ID = 5
IMIX = [(64, 7), (594, 4), (1518, 1)]
FCS = 4


class Refused(Exception):
    """What this generator cannot do."""


def addresses(text):
    first, _, last = text.partition("-")
    low, high = ipaddress.IPv4Address(first), ipaddress.IPv4Address(last or first)
    if high < low:
        raise argparse.ArgumentTypeError(f"{text} is no range")
    return str(low), str(high)


def about(client, ports):
    """What TRex is, and how fast its links are."""
    version = client.get_server_version().get("version", "of an unknown version")
    speeds = [port.get("speed", 0) for port in client.get_port_info(ports=ports)]
    reply = {"name": f"TRex {version}"}
    if all(speeds):
        reply["link"] = min(speeds) * 1e9
    return reply


class Trex:
    def __init__(self, api, args):
        self.api = api
        self.args = args
        self.flows = 1
        self.client = api.STLClient(server=args.server)
        self.client.connect()
        self.ports = [args.client_port, args.server_port]
        self.client.reset(ports=self.ports)

    def about(self):
        return about(self.client, self.ports)

    def open(self, flows):
        """The streams walk through as many flows; one datagram of each opens them."""
        self.flows = flows
        sent, came, _ = self.send(False, {"fixed": 64}, min(self.args.open, flows), burst=flows)
        if came < sent:
            raise Refused(f"of {sent} flows, {came} came through")
        return {}

    def packet(self, reverse, length):
        api = self.api
        clients, servers = self.args.clients, self.args.servers
        ours, theirs = ("dst", "src") if reverse else ("src", "dst")
        ends = {ours: clients[0], theirs: servers[0]}
        base = api.Ether() / api.IP(**ends) / api.UDP(sport=1024, dport=9)
        machine = api.STLVM()
        machine.tuple_var(name="client", ip_min=clients[0], ip_max=clients[1], port_min=1024, port_max=65535,
                          limit_flows=self.flows)
        machine.write(fv_name="client.ip", pkt_offset=f"IP.{ours}")
        machine.write(fv_name="client.port", pkt_offset="UDP.dport" if reverse else "UDP.sport")
        machine.fix_chksum()
        padding = max(0, length - FCS - len(base)) * "\0"
        return api.STLPktBuilder(pkt=base / padding, vm=machine)

    def streams(self, reverse, size, rate, burst):
        """Streams of one direction: one a frame size, their rates as the mixture's shares."""
        api = self.api
        mixture = IMIX if size == "imix" else [(size["fixed"], 1)]
        total = sum(share for _, share in mixture)
        streams = []
        for length, share in mixture:
            part = share / total
            if burst:
                mode = api.STLTXSingleBurst(pps=rate * part, total_pkts=max(1, round(burst * part)))
            else:
                mode = api.STLTXCont(pps=rate * part)
            streams.append(api.STLStream(packet=self.packet(reverse, length), mode=mode))
        return streams

    def send(self, both, size, rate, seconds=None, burst=None):
        """Frames sent, frames received on the other port, and the latency stream's figures."""
        api, client, args = self.api, self.client, self.args
        client.reset(ports=self.ports)
        directions = [(self.ports[0], False)] + ([(self.ports[1], True)] if both else [])
        timed = not burst and rate > 10 * LATENCY_PPS
        share = (rate - (LATENCY_PPS if timed else 0)) / len(directions)
        for port, reverse in directions:
            streams = self.streams(reverse, size, share, burst)
            if timed and not reverse:
                stamp = api.STLStream(packet=self.packet(False, 64), mode=api.STLTXCont(pps=LATENCY_PPS),
                                      flow_stats=api.STLFlowLatencyStats(pg_id=LATENCY_ID))
                streams.append(stamp)
            client.add_streams(streams, ports=[port])
        client.clear_stats()
        senders = [port for port, _ in directions]
        client.start(ports=senders, duration=seconds if seconds else -1, force=True)
        client.wait_on_traffic(ports=senders, rx_delay_ms=args.drain * 1000)
        stats = client.get_stats()
        sent = sum(stats[port]["opackets"] for port in senders)
        receivers = [self.ports[1]] + ([self.ports[0]] if both else [])
        came = sum(stats[port]["ipackets"] for port in receivers)
        return sent, came, self.latency() if timed else None

    def latency(self):
        """TRex counts microseconds in buckets; a bucket's lower bound stands for it."""
        figures = self.client.get_pgid_stats([LATENCY_ID])["latency"].get(LATENCY_ID)
        if not figures:
            return None
        buckets = sorted((int(at), count) for at, count in figures["latency"]["histogram"].items())
        total = sum(count for _, count in buckets)
        if not total:
            return None

        def quantile(part):
            seen = 0
            for at, count in buckets:
                seen += count
                if seen >= part * total:
                    return at * 1000
            return buckets[-1][0] * 1000

        return {"p50": quantile(0.5), "p90": quantile(0.9), "p99": quantile(0.99), "p99_9": quantile(0.999),
                "max": int(figures["latency"]["total_max"] * 1000)}

    def trial(self, trial):
        load, size = trial["load"], trial["size"]
        if load["kind"] == "established":
            if load["both"] and not self.args.no_nat:
                raise Refused("stateless streams cannot answer translated flows; leave --both out, or say --no-nat")
            sent, came, latency = self.send(load["both"], size, trial["rate"], seconds=trial["seconds"])
            seconds = trial["seconds"]
        elif load["kind"] == "burst":
            frames = load["frames"]
            sent, came, latency = self.send(False, size, self.args.burst_rate, burst=frames)
            seconds = frames / self.args.burst_rate
        else:
            raise Refused(f"stateless streams make no trial of the kind `{load['kind']}`")
        answer = {"offered": sent, "returned": min(came, sent), "wrong": 0, "seconds": seconds}
        if latency:
            answer["latency"] = latency
        return answer


def answer(trex, request):
    kind = request.get("op")
    if kind == "about":
        return trex.about()
    if kind == "open":
        return trex.open(request["flows"])
    if kind == "trial":
        return trex.trial(request["trial"])
    raise Refused(f"unknown request `{kind}`")


def arguments(description):
    """A parser of what every mode of TRex needs to know."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="127.0.0.1", help="where TRex runs")
    parser.add_argument("--client-port", type=int, default=0)
    parser.add_argument("--server-port", type=int, default=1)
    parser.add_argument("--clients", type=addresses, required=True)
    parser.add_argument("--servers", type=addresses, required=True)
    parser.add_argument("--drain", type=float, default=2, help="seconds that late frames have")
    return parser


def serve(start):
    """Answers each line of our input, by what `start` makes when the first one has come."""
    # The library talks; our caller reads our output.
    out, sys.stdout = sys.stdout, sys.stderr
    trex = None
    for line in sys.stdin:
        try:
            if trex is None:
                trex = start()
            reply = answer(trex, json.loads(line))
        except Exception as error:  # pylint: disable=broad-except
            reply = {"error": f"{type(error).__name__}: {error}" if not isinstance(error, Refused) else str(error)}
        print(json.dumps(reply), file=out, flush=True)
    if trex is not None:
        trex.client.disconnect()


def main():
    parser = arguments(__doc__)
    parser.add_argument("--open", type=float, default=50_000, help="flows opened a second")
    parser.add_argument("--burst-rate", type=float, default=1e7, help="frames a second within a burst")
    parser.add_argument("--no-nat", action="store_true", help="the gateway translates nothing")
    args = parser.parse_args()

    def start():
        from trex.stl import api  # pylint: disable=import-outside-toplevel
        return Trex(api, args)

    serve(start)


if __name__ == "__main__":
    main()
