"""Stands in for TRex's library in a test: a device that carries 10,000 frames a second, and keeps what it was asked for."""

CARRIES = 10_000


class Layer:
    def __init__(self, **fields):
        self.fields = fields

    def __truediv__(self, other):
        return Whole([self, other])


class Whole:
    def __init__(self, parts):
        self.parts = parts

    def __truediv__(self, other):
        return Whole(self.parts + [other])

    def __len__(self):
        return 42 + sum(len(part) for part in self.parts if isinstance(part, str))


Ether = IP = UDP = Layer


class STLVM:
    def __init__(self):
        self.writes = {}

    def tuple_var(self, name, ip_min, ip_max, port_min, port_max, limit_flows):
        assert name == "client" and ip_min and ip_max and port_min <= port_max
        self.flows = limit_flows

    def write(self, fv_name, pkt_offset):
        self.writes[fv_name] = pkt_offset

    def fix_chksum(self):
        self.fixed = True


class STLPktBuilder:
    def __init__(self, pkt, vm):
        assert vm.fixed
        self.length, self.vm = len(pkt), vm


class STLTXCont:
    def __init__(self, pps):
        self.pps, self.total = pps, None


class STLTXSingleBurst:
    def __init__(self, pps, total_pkts):
        self.pps, self.total = pps, total_pkts


class STLFlowLatencyStats:
    def __init__(self, pg_id):
        self.pg_id = pg_id


class STLStream:
    def __init__(self, packet, mode, flow_stats=None):
        self.packet, self.mode, self.flow_stats = packet, mode, flow_stats


class STLClient:
    def __init__(self, server):
        print(f"connecting to {server}")  # The library talks.
        self.added = {}

    def connect(self):
        pass

    def disconnect(self):
        pass

    def reset(self, ports):
        self.added = {port: [] for port in ports}

    def get_server_version(self):
        return {"version": "v0 (stand-in)"}

    def get_port_info(self, ports):
        return [{"speed": 10} for _ in ports]

    def add_streams(self, streams, ports):
        for port in ports:
            self.added[port] += streams

    def clear_stats(self):
        self.stats = {}

    def start(self, ports, duration, force):
        assert force
        for port in ports:
            modes = [stream.mode for stream in self.added[port]]
            sent = sum(round(mode.total or mode.pps * duration) for mode in modes)
            most = sent if duration < 0 else int(CARRIES * duration)
            self.stats.setdefault(port, {"ipackets": 0})["opackets"] = sent
            self.stats.setdefault(1 - port, {"opackets": 0})["ipackets"] = min(sent, most)

    def wait_on_traffic(self, ports, rx_delay_ms):
        assert ports and rx_delay_ms == 2000

    def get_stats(self):
        return self.stats

    def get_pgid_stats(self, ids):
        assert any(s.flow_stats and s.flow_stats.pg_id == ids[0] for s in sum(self.added.values(), []))
        return {"latency": {ids[0]: {"latency": {"histogram": {"10": 989, "200": 10, "30": 1}, "total_max": 245.0}}}}
