//! Records as JSON, from views and events to the lines of a file.

use super::*;
use alg::{Application, Denial, Endpoint, Fact, Side};
use dataplane::drop_reason::DropReason;
use dataplane::event::{Event, Ref};
use dataplane::key::{FlowKey, InterfaceId, Protocol, ZoneId};
use dataplane::policy::{Log as Recorded, RuleId};
use dataplane::stream::segment::Bound;
use dataplane::view::{CloseReason, ExpectationClass, ExpectationState, State};
use serde_json::{Value, json};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const TRUST: ZoneId = ZoneId(0);
const UNTRUST: ZoneId = ZoneId(1);
const PARENT: Ref = Ref { index: 17, version: 3 };

/// Far longer than it takes to write a few records.
const LONG: Duration = Duration::from_secs(20);

struct Log {
    _dir: tempfile::TempDir,
    path: PathBuf,
    audit: Audit,
}

/// A log of a gateway that started on 2026-01-31 at 12:00.
fn log() -> Log {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let names = Names {
        generation: 2,
        zones: vec!["trust".to_owned(), "untrust".to_owned()],
        rules: vec!["ftp \"and\" web".to_owned(), "no".to_owned()],
        ..Names::default()
    };
    let clock = WallClock::new(UNIX_EPOCH + Duration::from_secs(1_769_860_800));
    let audit = Audit::open(Target::File(path.clone()), clock, Arc::new(names)).unwrap();
    Log { _dir: dir, path, audit }
}

impl Log {
    fn at(&mut self, ms: u32) {
        let wall = UNIX_EPOCH + Duration::from_secs(1_769_860_800) + Duration::from_millis(ms.into());
        self.audit.set_time(Tick(ms), wall);
    }

    fn lines(&mut self) -> Vec<Value> {
        self.audit.flush();
        assert!(self.audit.settle(LONG));
        read(&self.path)
    }

    /// The record of one event of worker 1.
    fn event(&mut self, event: Event) -> Value {
        self.audit.event(WorkerId(1), &Stamped { at: Tick(1_500), event });
        self.lines().pop().unwrap()
    }
}

fn read(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn session() -> SessionView {
    SessionView {
        id: Ref { index: 18, version: 1 },
        owner: WorkerId(1),
        state: State::TcpEstablished,
        last_state: State::TcpEstablished,
        forward: FlowKey::v4(Protocol::Tcp, TRUST, (CLIENT, 40_000), (SERVER, 21)),
        reverse: FlowKey::v4(Protocol::Tcp, UNTRUST, (SERVER, 21), (GATEWAY, 20_001)),
        application: Application::Ftp,
        rule: RuleId(0),
        policy_generation: 2,
        created: Tick(1_000),
        last_seen: Tick(60_500),
        packets: [10, 9],
        bytes: [520, 4_000],
        parent: None,
        children: 0,
        alg: true,
        profile: dataplane::policy::ProfileId(0),
        bound_by: dataplane::view::BoundBy::Port,
        blindness: None,
        bound: true,
        log: Recorded::Both,
        close_reason: CloseReason::None,
    }
}

#[test]
fn a_session_is_recorded_at_both_ends() {
    let mut log = log();
    log.at(1_002);
    log.audit.session_opened(&session());
    log.at(61_000);
    let closed = SessionView {
        state: State::Closed,
        last_state: State::TcpTimeWait,
        close_reason: CloseReason::Fin,
        parent: Some(PARENT),
        ..session()
    };
    log.audit.session_closed(&closed);
    let flow = json!({
        "id": "18.1", "protocol": "tcp",
        "source": "10.1.0.2:40000", "destination": "198.51.100.2:21",
        "translated_source": "198.51.100.1:20001", "translated_destination": "198.51.100.2:21",
        "from_zone": "trust", "to_zone": "untrust", "rule": "ftp \"and\" web", "application": "ftp",
        "worker": 1, "policy_generation": 2,
    });
    let with = |more: Value| {
        let mut all = flow.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let expected = [
        with(json!({"kind": "session-open", "time": "2026-01-31T12:00:01.000Z", "parent": null})),
        with(json!({
            "kind": "session-close", "time": "2026-01-31T12:01:01.000Z", "parent": "17.3",
            "opened": "2026-01-31T12:00:01.000Z", "last_packet": "2026-01-31T12:01:00.500Z", "elapsed_ms": 60_000,
            "packets": [10, 9], "bytes": [520, 4_000], "state": "time-wait", "close_reason": "fin",
        })),
    ];
    assert_eq!(log.lines(), expected);
}

#[test]
fn a_session_without_log_leaves_no_record() {
    let mut log = log();
    let quiet = SessionView { log: Recorded::Off, ..session() };
    log.audit.session_opened(&quiet);
    log.audit.session_closed(&quiet);
    assert_eq!(log.lines(), [] as [Value; 0]);
    for (recorded, kind) in [(Recorded::Start, "session-open"), (Recorded::End, "session-close")] {
        let half = SessionView { log: recorded, ..session() };
        log.audit.session_opened(&half);
        log.audit.session_closed(&half);
        assert_eq!(log.lines().pop().unwrap()["kind"], kind);
    }
    assert_eq!(log.lines().len(), 2);
}

#[test]
fn the_identifier_of_an_echo_stands_for_the_port() {
    let mut log = log();
    log.audit.session_opened(&SessionView {
        forward: FlowKey::v4(Protocol::Icmp, TRUST, (CLIENT, 77), (SERVER, 0)),
        reverse: FlowKey::v4(Protocol::Icmp, UNTRUST, (SERVER, 0), (GATEWAY, 1_024)),
        ..session()
    });
    let record = log.lines().pop().unwrap();
    assert_eq!(record["source"], "10.1.0.2:77");
    assert_eq!(record["translated_source"], "198.51.100.1:1024");
    assert_eq!(record["translated_destination"], "198.51.100.2:0");
}

#[test]
fn the_life_of_an_expectation() {
    let mut log = log();
    let expectation = Ref { index: 5, version: 9 };
    let published = Endpoint::new(GATEWAY.into(), 20_002);
    let listener = Endpoint::new(CLIENT.into(), 40_001);
    let opened = Event::ExpectationOpened {
        expectation,
        parent: PARENT,
        application: Application::FtpData,
        class: ExpectationClass::AnyPort,
        opener: Endpoint::new(SERVER.into(), 0),
        published,
        listener,
        last_port: 0,
        from: Side::Initiator,
        offset: 42,
    };
    let mut expected = json!({
        "kind": "expectation-opened", "time": "2026-01-31T12:00:01.500Z", "id": "5.9", "parent": "17.3",
        "application": "ftp-data", "class": "any-port", "opener": "198.51.100.2",
        "published": "198.51.100.1:20002", "listener": "10.1.0.2:40001", "last_port": null,
        "from": "initiator", "offset": 42, "worker": 1,
    });
    assert_eq!(log.event(opened), expected);
    for field in ["class", "last_port", "from", "offset"] {
        expected.as_object_mut().unwrap().remove(field);
    }

    let hit = Event::ExpectationHit { expectation, parent: PARENT, child: Ref { index: 18, version: 1 } };
    let hit_record = json!({
        "kind": "expectation-hit", "time": "2026-01-31T12:00:01.500Z", "id": "5.9", "parent": "17.3",
        "child": "18.1", "worker": 1,
    });
    assert_eq!(log.event(hit), hit_record);

    let reason = DropReason::ExpectationLimitHost;
    let refused = Event::ExpectationRefused { parent: PARENT, reason, by_profile: true };
    let refused_record = json!({
        "kind": "expectation-refused", "time": "2026-01-31T12:00:01.500Z", "parent": "17.3",
        "reason": "expectation-limit-host", "by_profile": true, "worker": 1,
    });
    assert_eq!(log.event(refused), refused_record);

    log.at(121_500);
    log.audit.expectation_expired(&ExpectationView {
        id: expectation,
        state: ExpectationState::Expired,
        owner: WorkerId(1),
        parent: PARENT,
        class: ExpectationClass::AnyPort,
        opener: Endpoint::new(SERVER.into(), 0),
        last_port: 0,
        reverse: None,
        protocol: Protocol::Tcp,
        tag: 1,
        many: false,
        uses: 0,
        children: 0,
        child: None,
        closing: false,
        published,
        listener,
        application: Application::FtpData,
        expires: Tick(121_500),
    });
    expected["kind"] = "expectation-expired".into();
    expected["time"] = "2026-01-31T12:02:01.500Z".into();
    assert_eq!(log.lines().pop().unwrap(), expected);
}

#[test]
fn what_the_alg_read_and_refused() {
    let mut log = log();
    let bytes = |text: &[u8]| text.iter().copied().collect();
    let message = Event::AlgMessage {
        session: PARENT,
        application: Application::Ftp,
        fact: Fact {
            from: Side::Initiator,
            offset: 42,
            before: bytes(b"PORT 10,1,0,2,156,65\r\n"),
            after: bytes(b"PORT 198,51,100,1,78,34\r\n\xff"),
            rule: None,
            denial: None,
        },
        watched: false,
    };
    let expected = json!({
        "kind": "alg-message", "time": "2026-01-31T12:00:01.500Z", "session": "17.3", "application": "ftp",
        "from": "initiator", "offset": 42, "before": "PORT 10,1,0,2,156,65\\r\\n",
        "after": "PORT 198,51,100,1,78,34\\r\\n\\xff", "rule": null, "watched": false, "worker": 1,
    });
    assert_eq!(log.event(message), expected);

    let denied = Event::AlgDenied {
        session: PARENT,
        application: Application::Ftp,
        denial: Denial::PrivilegedPort,
        rule: None,
        watched: true,
    };
    let expected = json!({
        "kind": "alg-denied", "time": "2026-01-31T12:00:01.500Z", "session": "17.3", "application": "ftp",
        "reason": "privileged-port", "rule": null, "watched": true, "worker": 1,
    });
    assert_eq!(log.event(denied), expected);

    let end = |addr: Ipv4Addr, port| Endpoint::new(addr.into(), port);
    let watched = Event::ExpectationWatched {
        parent: PARENT,
        application: Application::FtpData,
        class: ExpectationClass::AnyPort,
        opener: end(SERVER, 0),
        published: end(GATEWAY, 40_000),
        listener: end(Ipv4Addr::new(10, 1, 0, 2), 40_000),
        from: Side::Responder,
        offset: 42,
    };
    let expected = json!({
        "kind": "expectation-watched", "time": "2026-01-31T12:00:01.500Z", "parent": "17.3",
        "application": "ftp-data", "opener": "198.51.100.2", "published": "198.51.100.1:40000",
        "listener": "10.1.0.2:40000", "from": "responder", "offset": 42, "worker": 1,
    });
    assert_eq!(log.event(watched), expected);
}

#[test]
fn what_the_streams_met() {
    let mut log = log();
    let (session, application) = (PARENT, Application::Sip);
    let mut expected = json!({
        "kind": "alg-stream-conflict", "time": "2026-01-31T12:00:01.500Z", "session": "17.3",
        "application": "sip", "from": "responder", "worker": 1,
    });
    let conflict = Event::AlgStreamConflict { session, application, from: Side::Responder };
    assert_eq!(log.event(conflict), expected);
    (expected["kind"], expected["from"]) = ("alg-stream-no-room".into(), "initiator".into());
    let bounds = [
        (Bound::Flow, "flow-bytes"),
        (Bound::Stretches, "stretches"),
        (Bound::Memory, "memory"),
        (Bound::Host, "host-share"),
    ];
    for (bound, name) in bounds {
        expected["bound"] = name.into();
        let no_room = Event::AlgStreamNoRoom { session, application, from: Side::Initiator, bound };
        assert_eq!(log.event(no_room), expected);
    }
}

#[test]
fn a_session_without_a_place_names_its_ends() {
    let mut log = log();
    let key = FlowKey::v4(Protocol::Tcp, UNTRUST, (SERVER, 5_000), (GATEWAY, 21));
    let (application, reason) = (Application::Ftp, DropReason::AlgHostShare);
    let expected = json!({
        "kind": "alg-no-place", "time": "2026-01-31T12:00:01.500Z", "protocol": "tcp",
        "source": "198.51.100.2:5000", "destination": "198.51.100.1:21", "application": "ftp",
        "reason": "alg-host-share", "watched": false, "worker": 1,
    });
    assert_eq!(log.event(Event::AlgNoPlace { key, application, reason, watched: false }), expected);
}

#[test]
fn denials_name_the_rule_or_the_default() {
    let mut log = log();
    let key = FlowKey::v4(Protocol::Udp, UNTRUST, (SERVER, 5_000), (GATEWAY, 53));
    let denied = |to, rule| Event::Denied { key, to, rule, generation: 2 };
    let expected = json!({
        "kind": "deny", "time": "2026-01-31T12:00:01.500Z", "protocol": "udp", "source": "198.51.100.2:5000",
        "destination": "198.51.100.1:53", "from_zone": "untrust", "to_zone": "trust", "rule": "no",
        "worker": 1, "policy_generation": 2,
    });
    assert_eq!(log.event(denied(Some(TRUST), RuleId(1))), expected);
    let by_default = log.event(denied(None, RuleId::NONE));
    assert_eq!((&by_default["rule"], &by_default["to_zone"]), (&json!("default"), &Value::Null));
}

#[test]
fn housekeeping_is_no_record() {
    let mut log = log();
    let event = Event::NeighborNeeded { interface: InterfaceId(0), next_hop: SERVER };
    log.audit.event(WorkerId(0), &Stamped { at: Tick(0), event });
    assert_eq!(log.lines(), [] as [Value; 0]);
}

#[test]
fn the_file_is_private_appended_to_and_reopened_after_rotation() {
    use std::os::unix::fs::PermissionsExt;
    let mut log = log();
    assert_eq!(fs::metadata(&log.path).unwrap().permissions().mode() & 0o777 & !0o640, 0);
    log.audit.session_opened(&session());
    let rotated = log.path.with_extension("1");
    fs::rename(&log.path, &rotated).unwrap();
    log.audit.reopen();
    log.audit.session_closed(&session());
    assert_eq!(log.lines().len(), 1);
    assert_eq!(read(&rotated).len(), 1);

    let again = Audit::open(Target::File(log.path.clone()), log.audit.clock, log.audit.names.clone());
    again.unwrap().session_opened(&session()); // dropping it writes it out
    assert_eq!(read(&log.path).len(), 2);
    assert_eq!((log.audit.errors(), log.audit.lost()), (0, 0));
}

#[test]
fn a_log_that_cannot_be_opened_is_a_sentence_and_one_that_cannot_be_written_is_counted() {
    let log = log();
    let missing = log.path.join("no/such/file");
    let error = Audit::open(Target::File(missing), log.audit.clock, log.audit.names.clone()).unwrap_err();
    assert!(error.to_string().starts_with("cannot open the audit log "), "{error}");

    let full = Target::File("/dev/full".into());
    let mut audit = Audit::open(full, log.audit.clock, log.audit.names.clone()).unwrap();
    for _ in 0..3 {
        audit.session_opened(&session());
    }
    audit.flush();
    assert!(audit.settle(LONG));
    assert_eq!((audit.errors(), audit.lost()), (1, 3));
}
