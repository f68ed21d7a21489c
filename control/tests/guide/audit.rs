//! The guide's table of audit records against a log that has one of each.

use super::{code, docs, rows};
use alg::{Application, Blindness, Denial, Endpoint, Fact, Side};
use control::audit::{Audit, DeviceEvent, Names, Records, Target, WallClock};
use dataplane::drop_reason::DropReason;
use dataplane::event::{Event, Ref, Stamped};
use dataplane::key::{FlowKey, InterfaceId, Protocol, Tick, WorkerId, ZoneId};
use dataplane::policy::{Log, ProfileId, RuleId};
use dataplane::stream::segment::Bound;
use dataplane::view::{CloseReason, ExpectationClass, ExpectationState, ExpectationView, SessionView, State};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

type Fields = BTreeSet<String>;

const ID: Ref = Ref { index: 18, version: 1 };
const HOST: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);

fn session() -> SessionView {
    SessionView {
        id: ID,
        owner: WorkerId(1),
        state: State::TcpEstablished,
        last_state: State::TcpEstablished,
        forward: FlowKey::v4(Protocol::Tcp, ZoneId(0), (HOST, 40_000), (HOST, 21)),
        reverse: FlowKey::v4(Protocol::Tcp, ZoneId(1), (HOST, 21), (HOST, 40_000)),
        application: Application::Ftp,
        rule: RuleId(0),
        policy_generation: 1,
        created: Tick(1_000),
        last_seen: Tick(60_500),
        packets: [1, 1],
        bytes: [40, 40],
        parent: None,
        children: 0,
        alg: true,
        profile: ProfileId(0),
        bound_by: dataplane::view::BoundBy::Port,
        blindness: None,
        bound: false,
        log: Log::Both,
        close_reason: CloseReason::Fin,
    }
}

fn expectation() -> ExpectationView {
    ExpectationView {
        id: ID,
        state: ExpectationState::Expired,
        owner: WorkerId(1),
        parent: ID,
        class: ExpectationClass::AnyPort,
        opener: Endpoint::new(HOST.into(), 0),
        last_port: 0,
        reverse: None,
        protocol: Protocol::Tcp,
        tag: 1,
        many: false,
        uses: 0,
        children: 0,
        child: None,
        closing: false,
        published: Endpoint::new(HOST.into(), 1),
        listener: Endpoint::new(HOST.into(), 1),
        application: Application::FtpData,
        expires: Tick(121_500),
    }
}

/// One of each event that workers report, and both records of blindness.
fn events() -> Vec<Event> {
    let (session, application) = (ID, Application::Ftp);
    let fact = Fact {
        from: Side::Initiator,
        offset: 0,
        before: b"PORT".iter().copied().collect(),
        after: b"PORT".iter().copied().collect(),
        rule: None,
        denial: None,
    };
    let end = Endpoint::new(HOST.into(), 1);
    vec![
        Event::AlgMessage { session, application, fact, watched: false },
        Event::AlgDenied { session, application, denial: Denial::PrivilegedPort, rule: None, watched: false },
        Event::AlgBound { session, application },
        Event::AlgBlind { session, application, why: Blindness::Encrypted },
        Event::AlgBlind { session, application, why: Blindness::OtherProtocol },
        Event::ExpectationOpened {
            expectation: ID,
            parent: ID,
            application,
            class: ExpectationClass::AnyPort,
            opener: end,
            published: end,
            listener: end,
            last_port: 0,
            from: Side::Initiator,
            offset: 0,
        },
        Event::ExpectationWatched {
            parent: ID,
            application,
            class: ExpectationClass::AnyPort,
            opener: end,
            published: end,
            listener: end,
            from: Side::Initiator,
            offset: 0,
        },
        Event::ExpectationHit { expectation: ID, parent: ID, child: ID },
        Event::ExpectationRefused { parent: ID, reason: DropReason::NatPortsExhausted, by_profile: false },
        Event::Denied { key: session_key(), to: Some(ZoneId(1)), rule: RuleId(0), generation: 1 },
        Event::NeighborNeeded { interface: InterfaceId(0), next_hop: HOST },
        Event::AlgStreamConflict { session, application, from: Side::Initiator },
        Event::AlgStreamNoRoom { session, application, from: Side::Initiator, bound: Bound::Flow },
        Event::AlgNoPlace {
            key: session_key(),
            application,
            reason: DropReason::AlgTableFull,
            watched: false,
        },
    ]
}

fn session_key() -> FlowKey {
    session().forward
}

/// The place of each kind of event in a list: who adds a kind is sent here.
fn number(event: &Event) -> usize {
    match event {
        Event::AlgMessage { .. } => 0,
        Event::AlgDenied { .. } => 1,
        Event::AlgBound { .. } => 2,
        Event::AlgBlind { why: Blindness::OtherProtocol, .. } => 4,
        Event::AlgBlind { .. } => 3,
        Event::ExpectationOpened { .. } => 5,
        Event::ExpectationWatched { .. } => 6,
        Event::ExpectationHit { .. } => 7,
        Event::ExpectationRefused { .. } => 8,
        Event::Denied { .. } => 9,
        Event::NeighborNeeded { .. } => 10,
        Event::AlgStreamConflict { .. } => 11,
        Event::AlgStreamNoRoom { .. } => 12,
        Event::AlgNoPlace { .. } => 13,
    }
}

/// What the log says: kinds of records, and the fields of each beside `kind` and `time`.
fn written() -> BTreeMap<String, Fields> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let clock = WallClock::new(UNIX_EPOCH + Duration::from_secs(1_769_860_800));
    let mut audit = Audit::open(Target::File(path.clone()), clock, Arc::new(Names::default())).unwrap();
    audit.session_opened(&session());
    audit.session_closed(&session());
    audit.expectation_expired(&expectation());
    let events = events();
    assert_eq!(events.iter().map(number).collect::<Vec<_>>(), (0..14).collect::<Vec<_>>());
    for event in events {
        audit.event(WorkerId(1), &Stamped { at: Tick(1_500), event });
    }
    for kind in ["link-up", "link-down", "device-removed", "device-released", "device-lacks"] {
        let lack = (kind == "device-lacks").then_some(("queues", "the device has no more"));
        let interfaces = vec!["inside"];
        audit.device(&DeviceEvent { kind, device: "3b:00.0", interfaces, mbps: 1_000, lack, queue: None });
    }
    let nothing =
        DeviceEvent { kind: "zzz", device: "", interfaces: Vec::new(), mbps: 0, lack: None, queue: None };
    audit.device(&nothing);
    let queue = Some((1, 100_000));
    for kind in ["queue-silent", "queue-receives", "zzz"] {
        audit.device(&DeviceEvent { kind, queue, ..nothing.clone() });
    }
    drop(audit); // writes it out
    let text = std::fs::read_to_string(&path).unwrap();
    let record = |line: &str| {
        let mut fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        let kind = fields.remove("kind").and_then(|kind| Some(kind.as_str()?.to_owned()));
        assert!(fields.remove("time").is_some_and(|time| time.is_string()), "{line}");
        (kind.unwrap_or_else(|| panic!("{line}")), fields.into_iter().map(|(name, _)| name).collect())
    };
    let written: BTreeMap<String, Fields> = text.lines().map(record).collect();
    assert_eq!(written.len(), text.lines().count(), "a kind of its own for each: {text}");
    written
}

#[test]
fn every_record_and_field_of_the_audit_log_stands_in_the_guide_and_no_other() {
    let guide = docs("operator-guide.md");
    let mut documented: BTreeMap<String, Fields> = BTreeMap::new();
    for row in rows(&guide, "## Audit records").iter().filter(|row| row.len() == 3) {
        let mut names: Fields = row[2].split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect();
        // `those of X, and more`.
        if row[2].starts_with("those of ") {
            let other = row[2].split('`').nth(1).unwrap();
            names.remove(other);
            names.extend(documented[other].iter().cloned());
        }
        let kind = code(&row[0]).unwrap().to_owned();
        assert!(documented.insert(kind, names).is_none(), "{} stands twice", row[0]);
    }
    assert_eq!(documented, written());
}

/// Of how many policies the names of rules are known, by the guide.
#[test]
fn rules_are_named_for_as_many_policies_as_the_guide_says() {
    let guide = docs("operator-guide.md");
    let said = format!("the {} before it", Names::REMEMBERED);
    assert!(guide.contains(&said), "nothing about {said}");
    let policy = |generation| dataplane::policy::Policy { generation, ..Default::default() };
    let mut names = Names::of(&policy(1));
    names.rules.push("first".to_owned());
    let commits = u32::try_from(Names::REMEMBERED).unwrap();
    for generation in 2..=commits + 1 {
        names = names.after(&policy(generation));
        assert_eq!(names.rule(RuleId(0), 1), "first", "after {generation} policies");
    }
    let names = names.after(&policy(commits + 2));
    assert_eq!(names.rule(RuleId(0), 1), "#0");
    assert!(guide.contains("`#0` is the first"), "nothing about #0");
}
