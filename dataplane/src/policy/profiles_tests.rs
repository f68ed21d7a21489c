//! Tests of the profiles.

use super::*;
use crate::key::ZoneId;
use core::net::{IpAddr, Ipv4Addr};

fn profile(protocol: AlgProtocol, name: &str) -> AlgProfile {
    AlgProfile { name: name.into(), ..AlgProfile::built_in(protocol) }
}

fn off(protocol: AlgProtocol, name: &str, on_change: OnChange) -> AlgProfile {
    AlgProfile { mode: AlgMode::Off, on_change, ..profile(protocol, name) }
}

fn query(protocol: Protocol, dport: u16) -> Query {
    let addr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2));
    Query { from: ZoneId(0), to: ZoneId(1), source: addr, destination: addr, protocol, sport: 1, dport }
}

const NONE: RuleProfiles = [None; 4];

#[test]
fn each_protocol_has_a_default() {
    let list = vec![profile(AlgProtocol::Sip, "a"), profile(AlgProtocol::Sip, "b")];
    let profiles = AlgProfiles::new(list, [None, None, Some(1), None]);
    let names: Vec<_> = profiles.list().iter().map(|p| (p.protocol.name(), p.name.as_str())).collect();
    let built_in = BUILT_IN;
    assert_eq!(
        names,
        [("sip", "a"), ("sip", "b"), ("ftp", built_in), ("tftp", built_in), ("rtsp", built_in)]
    );
    let defaults: Vec<_> = profiles.list().iter().map(|p| profiles.is_default(p)).collect();
    assert_eq!(defaults, [false, true, true, true, true]);
    assert_eq!(
        profiles.inspection(&NONE, Application::Sip, Protocol::Udp),
        Inspection::Profile(ProfileId(1))
    );
    let named = [None, None, Some(0), None];
    assert_eq!(
        profiles.inspection(&named, Application::Sip, Protocol::Tcp),
        Inspection::Profile(ProfileId(0))
    );
    assert_eq!(profiles.inspection(&named, Application::Sip, Protocol::Icmp), Inspection::None);
    assert_eq!(
        profiles.inspection(&named, Application::Tftp, Protocol::Udp),
        Inspection::Profile(ProfileId(3))
    );
}

#[test]
fn ports_count_for_ftp_by_default_and_for_others_where_the_file_or_a_rule_asks() {
    let taken = |profiles: &AlgProfiles, named: &RuleProfiles, protocol, port| {
        profiles.recognise(named, Application::Unknown, &query(protocol, port))
    };
    let plain = AlgProfiles::new(vec![profile(AlgProtocol::Sip, "a")], [None, None, Some(0), None]);
    assert_eq!(taken(&plain, &NONE, Protocol::Tcp, 21), Application::Ftp);
    assert_eq!(taken(&plain, &NONE, Protocol::Udp, 5060), Application::Unknown);
    let named = [None, None, Some(0), None];
    for transport in [Protocol::Udp, Protocol::Tcp] {
        assert_eq!(taken(&plain, &named, transport, 5060), Application::Sip);
        assert_eq!(taken(&plain, &named, transport, 5062), Application::Unknown);
    }
    assert_eq!(taken(&plain, &named, Protocol::Tcp, 5061), Application::Sip, "SIP over TLS");
    assert_eq!(taken(&plain, &named, Protocol::Udp, 5061), Application::Unknown);
    assert_eq!(taken(&plain, &NONE, Protocol::Tcp, 5061), Application::Unknown);
    let films = [None, None, None, Some(3)];
    for (transport, application) in
        [(Protocol::Tcp, Application::Rtsp), (Protocol::Udp, Application::Unknown)]
    {
        // RTSP has datagrams no more, and TLS had none.
        assert_eq!([554, 322, 8554].map(|port| taken(&plain, &films, transport, port)), [application; 3]);
    }
    assert_eq!([322, 8554].map(|port| taken(&plain, &NONE, Protocol::Tcp, port)), [Application::Unknown; 2]);
    let listed = AlgProfile { ports: Some(vec![5080]), ..profile(AlgProtocol::Sip, "a") };
    let listed = AlgProfiles::new(vec![listed], [None, None, Some(0), None]);
    assert_eq!(taken(&listed, &NONE, Protocol::Udp, 5080), Application::Sip);
    assert_eq!(taken(&listed, &NONE, Protocol::Udp, 5060), Application::Unknown);
    let dns = listed.recognise(&NONE, Application::Dns, &query(Protocol::Udp, 5080));
    assert_eq!(dns, Application::Dns, "the service's word comes first");
}

#[test]
fn who_asks_is_looked_for_as_long_as_it_asks() {
    use AlgProtocol::{Ftp, Sip};
    let asks = |profile: AlgProfile| AlgProfile { detect: true, ..profile };
    let list = |ftp: AlgProfile| vec![ftp, asks(profile(Sip, "a")), profile(Sip, "b")];
    let defaults = [Some(0), None, Some(1), None];
    let profiles = AlgProfiles::new(list(asks(profile(Ftp, "f"))), defaults);
    let of = |named: &RuleProfiles, transport| {
        let candidates = profiles.candidates(named, transport);
        Application::ALL.into_iter().filter(|a| candidates.of(&profiles, *a).is_some()).collect::<Vec<_>>()
    };
    assert_eq!(of(&NONE, Protocol::Tcp), [Application::Ftp, Application::Sip]);
    assert_eq!(of(&NONE, Protocol::Udp), [Application::Sip], "FTP has no datagrams");
    assert_eq!(of(&NONE, Protocol::Icmp), []);
    assert_eq!(of(&[None, None, Some(2), None], Protocol::Udp), [], "the rule's profile does not ask");
    assert!(!AlgProfiles::default().candidates(&NONE, Protocol::Tcp).any());

    let candidates = profiles.candidates(&NONE, Protocol::Tcp);
    for (ftp, stays) in [
        (asks(AlgProfile { ports: Some(vec![9]), ..profile(Ftp, "f") }), true),
        (profile(Ftp, "f"), false),
        (asks(off(Ftp, "f", OnChange::Keep)), false),
        (asks(profile(Ftp, "another")), false),
    ] {
        let mut next = AlgProfiles::new(list(ftp), defaults);
        next.follow(&profiles, 2);
        assert_eq!(candidates.of(&next, Application::Ftp).is_some(), stays, "{:?}", next.list()[0]);
        assert!(candidates.of(&next, Application::Sip).is_some());
    }
}

#[test]
fn a_profile_keeps_its_number_as_long_as_it_is_there() {
    use AlgProtocol::{Ftp, Sip};
    let first = AlgProfiles::new(vec![profile(Ftp, "a"), profile(Sip, "b")], [Some(0), None, Some(1), None]);
    let mut second = AlgProfiles::new(
        vec![profile(Sip, "c"), profile(Sip, "b"), profile(Sip, "a"), profile(Ftp, "a")],
        [Some(3), None, Some(0), None],
    );
    second.follow(&first, 2);
    let id = |profiles: &AlgProfiles, protocol, name: &str| {
        profiles.list().iter().find(|p| p.protocol == protocol && p.name == name).map(|p| p.id).unwrap()
    };
    assert_eq!(id(&second, Ftp, "a"), id(&first, Ftp, "a"));
    assert_eq!(id(&second, Sip, "b"), id(&first, Sip, "b"));
    let ids: std::collections::BTreeSet<u8> = second.list().iter().map(|p| p.id.0).collect();
    assert_eq!(ids.len(), second.list().len(), "each has its own: {:?}", second.list());
    // Names that come and go for ever meet no profile's number.
    let mut last = second;
    for n in 0..1_000 {
        let list = vec![profile(Sip, &n.to_string()), profile(Ftp, "a")];
        let mut next = AlgProfiles::new(list, [Some(1), None, Some(0), None]);
        next.follow(&last, n + 3);
        assert_eq!(id(&next, Ftp, "a"), id(&first, Ftp, "a"));
        let all = next.list().iter().chain(next.kept());
        let ids: Vec<u8> = all.map(|p| p.id.0).collect();
        let distinct: std::collections::BTreeSet<u8> = ids.iter().copied().collect();
        assert_eq!(ids.len(), distinct.len(), "{ids:?}");
        assert!(next.kept().len() <= MAX_PROFILES && !distinct.contains(&ProfileId::NONE.0));
        last = next;
    }
}

#[test]
fn what_a_commit_switches_off_stays_for_its_sessions_if_asked() {
    use AlgProtocol::Sip;
    let defaults = [None, None, Some(0), None];
    let first = AlgProfiles::new(vec![profile(Sip, "a")], defaults);
    let id = first.list()[0].id;
    let commit = |list, old: &AlgProfiles| {
        let mut next = AlgProfiles::new(list, defaults);
        next.follow(old, 2);
        next
    };
    let kept = commit(vec![off(Sip, "a", OnChange::Keep)], &first);
    assert_eq!(kept.find(id, 2).map(|p| p.mode), Some(AlgMode::Full), "its sessions read on");
    assert_eq!(kept.inspection(&NONE, Application::Sip, Protocol::Udp), Inspection::None, "new ones do not");
    assert!(kept.inspection_of_child((id, 2), Application::Sip, Protocol::Udp) == Inspection::Profile(id));
    let back = commit(vec![profile(Sip, "a")], &kept);
    assert!(back.kept().is_empty() && back.find(id, 2).is_some(), "one profile again");
    let dropped = commit(vec![off(Sip, "a", OnChange::Drop)], &first);
    assert!(dropped.find(id, 2).is_none() && dropped.named(id, 2).is_some());
    // One that goes says itself, in the last file that had it, what becomes of its sessions.
    let gone = commit(vec![profile(Sip, "b")], &first);
    assert!(gone.find(id, 2).is_some_and(|p| p.name == "a"));
    let fleeting = AlgProfile { on_change: OnChange::Drop, ..profile(Sip, "a") };
    let fleeting = commit(vec![fleeting], &first);
    assert!(commit(vec![profile(Sip, "b")], &fleeting).find(id, 2).is_none());
    assert!(commit(vec![profile(Sip, "b")], &gone).find(id, 2).is_some(), "it stays over later commits");
}

#[test]
fn rules_keep_their_numbers_and_share_none() {
    use AlgProtocol::Ftp;
    let ruled = |name: &str, rules: &[&str]| {
        let rules = rules.iter().map(|rule| Rule { name: (*rule).into(), ..Rule::default() });
        let rules = alg::CommandPolicy::new(rules);
        AlgProfile { settings: Arc::new(alg::Profile { rules, ..Default::default() }), ..profile(Ftp, name) }
    };
    let numbers = |profiles: &AlgProfiles| -> Vec<u16> {
        let all = profiles.list().iter().chain(profiles.kept());
        all.flat_map(AlgProfile::rules).map(|rule| rule.number).collect()
    };
    let defaults = [Some(0), None, None, None];
    let first = AlgProfiles::new(vec![ruled("a", &["x", "y"]), ruled("b", &["x"])], defaults);
    assert_eq!(numbers(&first), [0, 1, 2]);
    let commit = |list: Vec<AlgProfile>, old: &AlgProfiles| {
        let mut next = AlgProfiles::new(list, defaults);
        next.follow(old, 2);
        let once = numbers(&next);
        next.follow(old, 2);
        assert_eq!(numbers(&next), once, "the same again changes nothing");
        next
    };
    let second = commit(vec![ruled("b", &["z", "x"]), ruled("a", &["y"])], &first);
    assert_eq!(numbers(&second), [3, 2, 1], "the number of a/x is not used again at once");
    // The rules of a profile that goes stay those of its sessions.
    let third = commit(vec![ruled("c", &["x"])], &second);
    assert_eq!(numbers(&third), [4, 3, 2, 1]);
    let mut last = third;
    for n in 0..70_000_u32 {
        // Round the numbers once; what is kept keeps its own.
        let next = commit(vec![ruled("b", &["z", "x"]), ruled("a", &[&n.to_string()])], &last);
        let all = numbers(&next);
        assert!(all[..2] == [3, 2] && all[2] != 3 && all[2] != 2, "{all:?}");
        last = next;
    }
}

#[test]
fn a_number_that_is_given_again_is_not_that_of_older_sessions() {
    use AlgProtocol::Ftp;
    let fleeting = |name: &str| AlgProfile { on_change: OnChange::Drop, ..profile(Ftp, name) };
    let defaults = [Some(0), None, None, None];
    let first = AlgProfiles::new(vec![fleeting("first")], defaults);
    let id = first.list()[0].id;
    let mut last = first;
    let mut again = 0;
    for generation in 1..=300 {
        let mut next = AlgProfiles::new(vec![fleeting(&generation.to_string())], defaults);
        next.follow(&last, generation);
        let own = next.list()[0].clone();
        assert_eq!(own.since, generation);
        assert!(next.find(own.id, generation).is_some_and(|p| p.name == own.name));
        assert!(next.find(own.id, generation - 1).is_none(), "of nobody who was there before");
        assert!(next.find(id, 0).is_none());
        let child = next.inspection_of_child((id, 0), Application::Ftp, Protocol::Tcp);
        assert_eq!(child, Inspection::None);
        again += usize::from(own.id == id);
        last = next;
    }
    assert!(again > 0, "the number was given again");
    // Whoever stays keeps the generation with the number.
    let mut same = AlgProfiles::new(vec![fleeting("300")], defaults);
    same.follow(&last, 301);
    assert_eq!((same.list()[0].id, same.list()[0].since), (last.list()[0].id, 300));
}
