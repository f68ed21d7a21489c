"""Stands in for TRex's library of the stateful mode in a test: a device that opens 10,000 sessions a second and holds 5,000.

What it takes and refuses is what TRex's own classes do: names of arguments, their types, which commands belong to streams.
"""

OPENS = 10_000
HOLDS = 5_000


class ASTFProgram:
    def __init__(self, stream=True):
        self.stream, self.commands = stream, []

    def add(self, stream, *command):
        # Commands of TCP in a program of datagrams, or the other way round, are an error of TRex's.
        assert stream is None or stream == self.stream, command
        self.commands.append(command)

    def connect(self):
        self.add(True, "connect")

    def accept(self):
        self.add(True, "connect")

    def send(self, buf):
        assert isinstance(buf, (bytes, str)) and buf
        self.add(True, "tx", len(buf))

    def recv(self, bytes, clear=False):  # pylint: disable=redefined-builtin
        assert isinstance(bytes, int) and not clear
        self.add(True, "rx", bytes)

    def wait_for_peer_close(self):
        self.add(True, "nc")

    def delay(self, usec):
        assert isinstance(usec, (int, float)) and 0 < usec < 2**32
        self.add(None, "delay", usec)

    def set_keepalive_msg(self, msec):
        assert isinstance(msec, int) and not self.commands
        self.add(False, "keepalive", msec)

    def send_msg(self, buf):
        assert isinstance(buf, (bytes, str))
        self.add(False, "tx_msg", len(buf))

    def recv_msg(self, pkts):
        assert isinstance(pkts, int)
        self.add(False, "rx_msg", pkts)

    def total(self, name):
        return sum(command[1] for command in self.commands if command[0] == name)


class ASTFIPGenGlobal:
    def __init__(self, ip_offset):
        assert ip_offset.count(".") == 3


class ASTFIPGenDist:
    def __init__(self, ip_range, distribution):
        assert isinstance(ip_range, list) and len(ip_range) == 2 and distribution in ("seq", "rand")


class ASTFIPGen:
    def __init__(self, glob, dist_client, dist_server):
        assert isinstance(glob, ASTFIPGenGlobal)
        assert isinstance(dist_client, ASTFIPGenDist) and isinstance(dist_server, ASTFIPGenDist)


class ASTFAssociationRule:
    def __init__(self, port):
        self.port = port


class ASTFTCPClientTemplate:
    def __init__(self, program, ip_gen, port, cps, limit):
        assert isinstance(program, ASTFProgram) and isinstance(ip_gen, ASTFIPGen)
        # Its least is half a flow a second.
        assert cps >= 0.5 and isinstance(limit, int)
        self.program, self.port, self.cps, self.limit = program, port, cps, limit


class ASTFTCPServerTemplate:
    def __init__(self, program, assoc):
        assert isinstance(program, ASTFProgram) and isinstance(assoc, ASTFAssociationRule)
        self.program, self.assoc = program, assoc


class ASTFTemplate:
    def __init__(self, client_template, server_template):
        assert client_template.program.stream == server_template.program.stream
        assert client_template.port == server_template.assoc.port
        self.client, self.server = client_template, server_template


class ASTFProfile:
    def __init__(self, default_ip_gen, templates):
        assert isinstance(default_ip_gen, ASTFIPGen) and isinstance(templates, ASTFTemplate)
        self.template = templates


class ASTFClient:
    def __init__(self, server):
        print(f"connecting to {server}")  # The library talks.
        self.profile, self.stats, self.looks = None, None, 0

    def connect(self):
        pass

    def disconnect(self):
        pass

    def reset(self):
        self.profile = None

    def get_server_version(self):
        return {"version": "v0 (stand-in)"}

    def get_port_info(self, ports):
        return [{"speed": 10} for _ in ports]

    def load_profile(self, profile):
        assert isinstance(profile, ASTFProfile)
        self.profile = profile

    def clear_stats(self):
        self.stats = {"client": {"m_active_flows": 0, "m_est_flows": 0}, "server": {}}

    def start(self, mult, duration):
        assert isinstance(mult, int) and duration > 0
        ours, theirs = self.profile.template.client, self.profile.template.server
        client, server = ours.program, theirs.program
        count = min(ours.limit, round(ours.cps * mult * duration))
        # What is not held until the last has come needs no place.
        held = (client.total("delay") + server.total("delay")) / 1e6
        if held:
            assert held >= count / ours.cps, "the first goes before the last has come"
        through = min(count, HOLDS if held else int(OPENS * duration))
        counters = self.stats["client"]
        counters["m_est_flows"] = through
        if client.stream:
            assert client.commands[0] == server.commands[0] == ("connect",) and server.commands[-1] == ("nc",)
            assert client.total("tx") == server.total("rx")
            counters["tcps_connattempt"] = count
            counters["tcps_connects"] = through
            counters["tcps_rcvbyte"] = through * server.total("tx")
            # One in a hundred breaks off where an object is asked for.
            if server.total("tx") > 4:
                counters["tcps_drops"] = through // 100
        else:
            # Longer than the program waits, or TRex says something by itself.
            assert all(p.commands[0][0] == "keepalive" and p.commands[0][1] > held * 1000 for p in (client, server))
            counters["udps_sndpkt"], counters["udps_rcvpkt"] = count, through
        # Counters that are zero are left out.
        for name in [name for name, value in counters.items() if value == 0]:
            del counters[name]
        self.looks = 2

    def is_traffic_active(self):
        self.looks -= 1
        return [0, 1] if self.looks > 0 else []

    def get_stats(self):
        return {"traffic": self.stats}

    def stop(self):
        pass

    def clear_profile(self):
        self.profile = None
