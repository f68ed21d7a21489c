//! The control socket's server over a fake gateway: lists, refusals, and the socket file itself.

#![allow(clippy::unwrap_used, clippy::panic)]

mod server_fake;

use control::server::{Server, StartError};
use control_api::v1::postern_client::PosternClient;
use control_api::{MAX_MESSAGE_BYTES, MAX_POLICY_BYTES, v1};
use server_fake::{FTP, Fake, GOOD, Running, socket, start};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

async fn client(path: &Path) -> PosternClient<Channel> {
    let endpoint = Endpoint::try_from(format!("unix:{}", path.display())).unwrap();
    PosternClient::new(endpoint.connect().await.unwrap()).max_encoding_message_size(MAX_MESSAGE_BYTES)
}

async fn sessions(running: &Running, request: v1::ListSessionsRequest) -> Result<Vec<v1::Session>, Status> {
    let mut chunks = client(&running.path).await.list_sessions(request).await?.into_inner();
    let mut all = Vec::new();
    while let Some(chunk) = chunks.message().await? {
        assert!((1..=128).contains(&chunk.sessions.len()), "a chunk of {}", chunk.sessions.len());
        all.extend(chunk.sessions);
    }
    Ok(all)
}

#[tokio::test]
async fn ten_thousand_sessions_come_once_each() {
    let running = start(20_000);
    let all = sessions(&running, v1::ListSessionsRequest::default()).await.unwrap();
    let ids: BTreeSet<_> = all.iter().map(|s| s.id.clone()).collect();
    assert_eq!((all.len(), ids.len()), (10_001, 10_001));

    let ftp = all.iter().find(|s| s.application == "ftp").unwrap();
    let endpoint = |address: &str, port| Some(v1::Endpoint { address: address.to_owned(), port });
    let expected = v1::Session {
        id: "4.7".to_owned(),
        parent: String::new(),
        worker: 1,
        protocol: "tcp".to_owned(),
        state: "established".to_owned(),
        source: endpoint("10.1.0.2", 40_000),
        destination: endpoint("203.0.0.4", 53),
        translated_source: endpoint("198.51.100.1", 20_001),
        translated_destination: endpoint("203.0.0.4", 53),
        from_zone: "trust".to_owned(),
        to_zone: "untrust".to_owned(),
        rule: "ftp and names".to_owned(),
        application: "ftp".to_owned(),
        alg: true,
        policy_generation: 3,
        age_ms: 60_000,
        idle_ms: 500,
        forward_packets: 10,
        reverse_packets: 20,
        forward_bytes: 1_500,
        reverse_bytes: 2_500_000,
        alg_blind: String::new(),
        alg_bound_by: "content".to_owned(),
        children: 1,
    };
    assert_eq!(*ftp, expected);
    assert_eq!(all.iter().find(|s| s.application == "ftp-data").unwrap().parent, "4.7");
}

/// A request with a filter.
fn which(filter: v1::SessionFilter) -> v1::ListSessionsRequest {
    v1::ListSessionsRequest { limit: 0, filter: Some(filter) }
}

#[tokio::test]
async fn filters_choose_sessions() {
    let running = start(2_000);
    let count = async |filter| sessions(&running, which(filter)).await.unwrap().len();
    let any = v1::SessionFilter::default;
    let text = |text: &str| text.to_owned();
    assert_eq!(count(any()).await, 1_001);
    assert_eq!(count(v1::SessionFilter { protocol: text("tcp"), ..any() }).await, 2);
    assert_eq!(count(v1::SessionFilter { application: text("ftp-data"), ..any() }).await, 1);
    assert_eq!(count(v1::SessionFilter { zone: text("untrust"), ..any() }).await, 1_001);
    assert_eq!(count(v1::SessionFilter { address: text("203.0.0.8"), ..any() }).await, 1);
    assert_eq!(count(v1::SessionFilter { address: text("203.0.0.0/29"), ..any() }).await, 5);
    assert_eq!(count(v1::SessionFilter { address: text("198.51.100.1"), ..any() }).await, 1_001);
    assert_eq!(count(v1::SessionFilter { address: text("::1"), ..any() }).await, 0);

    // The tuple, on both sides of the gateway.
    for source in ["10.1.0.2", "198.51.100.1", "10.0.0.0/8"] {
        assert_eq!(count(v1::SessionFilter { source: text(source), ..any() }).await, 1_001, "{source}");
        assert_eq!(count(v1::SessionFilter { destination: text(source), ..any() }).await, 0, "{source}");
    }
    assert_eq!(count(v1::SessionFilter { destination: text("203.0.0.0/29"), ..any() }).await, 5);
    assert_eq!(count(v1::SessionFilter { source: text("203.0.0.0/29"), ..any() }).await, 0);
    for port in [40_000, 20_001] {
        assert_eq!(count(v1::SessionFilter { source_port: Some(port), ..any() }).await, 1_001);
        assert_eq!(count(v1::SessionFilter { destination_port: Some(port), ..any() }).await, 0);
    }
    assert_eq!(count(v1::SessionFilter { destination_port: Some(53), ..any() }).await, 1_001);
    assert_eq!(count(v1::SessionFilter { source_port: Some(0), ..any() }).await, 0);

    // The rest.
    assert_eq!(count(v1::SessionFilter { state: text("syn-sent"), ..any() }).await, 1);
    assert_eq!(count(v1::SessionFilter { rule: text("ftp and names"), ..any() }).await, 1_001);
    assert_eq!(count(v1::SessionFilter { rule: text("default"), ..any() }).await, 0);
    assert_eq!(count(v1::SessionFilter { worker: Some(1), ..any() }).await, 1_001);
    assert_eq!(count(v1::SessionFilter { worker: Some(0), ..any() }).await, 0);
    assert_eq!(count(v1::SessionFilter { parent: text("4.7"), ..any() }).await, 1);
    assert_eq!(count(v1::SessionFilter { parent: text("4.9"), ..any() }).await, 0);
    for (age, least, most) in [(59_999, 1_001, 0), (60_000, 1_001, 1_001), (60_001, 0, 1_001)] {
        assert_eq!(count(v1::SessionFilter { min_age_ms: Some(age), ..any() }).await, least, "{age}");
        assert_eq!(count(v1::SessionFilter { max_age_ms: Some(age), ..any() }).await, most, "{age}");
    }
    assert_eq!(count(v1::SessionFilter { min_idle_ms: Some(500), ..any() }).await, 1_001);
    assert_eq!(count(v1::SessionFilter { min_idle_ms: Some(501), ..any() }).await, 0);

    for limit in [1, 127, 128, 129, 1_000] {
        let request = v1::ListSessionsRequest { limit, filter: None };
        assert_eq!(sessions(&running, request).await.unwrap().len() as u64, limit);
    }
    let both = v1::SessionFilter { protocol: text("tcp"), state: text("established"), ..any() };
    assert_eq!(count(both).await, 1);
}

#[tokio::test]
async fn a_session_is_found_by_its_name_without_a_scan() {
    let running = start(10_000);
    let of = |id: &str| which(v1::SessionFilter { id: id.to_owned(), ..v1::SessionFilter::default() });
    assert_eq!(sessions(&running, of("4.7")).await.unwrap().len(), 1);
    assert_eq!(sessions(&running, of("4.8")).await.unwrap().len(), 0);
    assert_eq!(sessions(&running, of("4000000000.7")).await.unwrap().len(), 0);
    assert_eq!(running.fake.looked.load(Ordering::Relaxed), 2);

    let mut client = client(&running.path).await;
    let mut show = async |id: &str| {
        let request = v1::ShowSessionRequest { id: id.to_owned() };
        client.show_session(request).await.map(tonic::Response::into_inner)
    };
    let shown = show("4.7").await.unwrap();
    assert_eq!(shown.session.unwrap().application, "ftp");
    assert_eq!(shown.expectations.iter().map(|e| e.id.as_str()).collect::<Vec<_>>(), ["3.2"]);
    assert_eq!(show("6.7").await.unwrap().expectations, []);
    for id in ["4.8", "7.7", "4000000000.7"] {
        let gone = show(id).await.unwrap_err();
        let expected = format!("there is no session {id}: it has ended, or never was");
        assert_eq!((gone.code(), gone.message()), (Code::NotFound, expected.as_str()));
    }
    for id in ["", "4", "4.x", "+4.7", "-1.7", "4.7.1", "4294967296.1"] {
        assert_eq!(show(id).await.unwrap_err().code(), Code::InvalidArgument, "{id:?}");
    }
}

#[tokio::test]
async fn a_field_that_cannot_be_right_is_named() {
    let running = start(10);
    let any = v1::SessionFilter::default;
    let text = |text: &str| text.to_owned();
    for (filter, expected) in [
        (
            v1::SessionFilter { address: text("10.1.0.0/33"), ..any() },
            "address: \"10.1.0.0/33\" is not an address or a prefix",
        ),
        (v1::SessionFilter { source: text("x"), ..any() }, "source: \"x\" is not an address or a prefix"),
        (
            v1::SessionFilter { protocol: text("gopher"), ..any() },
            "protocol: \"gopher\" is not tcp, udp or icmp",
        ),
        (
            v1::SessionFilter { application: text("FTP"), ..any() },
            "application: \"FTP\" is not one of unknown, ftp, ftp-data, ",
        ),
        (v1::SessionFilter { state: text("open"), ..any() }, "state: \"open\" is not one of syn-sent, "),
        (v1::SessionFilter { zone: text("dmz"), ..any() }, "zone: \"dmz\" is not one of trust, untrust"),
        (v1::SessionFilter { rule: text("web"), ..any() }, "rule: \"web\" is not a rule of the policy"),
        (v1::SessionFilter { worker: Some(2), ..any() }, "worker: \"2\" is not a worker: 0 to 1"),
        (
            v1::SessionFilter { source_port: Some(65_536), ..any() },
            "source_port: \"65536\" is not a port: 0 to 65535",
        ),
        (v1::SessionFilter { id: text("4"), ..any() }, "id: \"4\" is not INDEX.VERSION"),
    ] {
        let status = sessions(&running, which(filter)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(expected), "{}", status.message());
    }
}

/// Waits until the scan looks at nothing more, and says how far it came.
async fn settled(fake: &Fake) -> u32 {
    let mut last = 0;
    let mut same = 0;
    while same < 5 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let looked = fake.looked.load(Ordering::Relaxed);
        same = if looked == last { same + 1 } else { 0 };
        last = looked;
    }
    last
}

#[tokio::test]
async fn a_slow_client_holds_the_scan_and_a_hang_up_ends_it() {
    let running = start(10_000_000);
    let mut client = client(&running.path).await;
    let mut chunks = client.list_sessions(v1::ListSessionsRequest::default()).await.unwrap().into_inner();
    assert!(chunks.message().await.unwrap().is_some());
    let held = settled(&running.fake).await;
    assert!(held < 1_000_000, "nobody reads, and the scan is at {held}");

    drop((chunks, client));
    let ended = settled(&running.fake).await;
    assert!(ended < held + 10_000, "nobody listens, and the scan went from {held} to {ended}");
}

#[tokio::test]
async fn expectations_and_counters() {
    let running = start(10);
    let mut client = client(&running.path).await;
    let mut chunks =
        client.list_expectations(v1::ListExpectationsRequest::default()).await.unwrap().into_inner();
    let chunk = chunks.message().await.unwrap().unwrap();
    assert_eq!(chunk.expectations.len(), 1);
    let expectation = &chunk.expectations[0];
    assert_eq!((expectation.id.as_str(), expectation.parent.as_str()), ("3.2", format!("{FTP}.7").as_str()));
    assert_eq!(expectation.expires_in_ms, 29_000);
    assert!(chunks.message().await.unwrap().is_none());

    let names = |worker: &v1::WorkerCounters| -> Vec<String> {
        worker.counters.iter().chain(&worker.drops).map(|c| c.name.clone()).collect()
    };
    let some = client.show_counters(v1::ShowCountersRequest { all: false }).await.unwrap().into_inner();
    assert_eq!(some.workers.len(), 2);
    assert_eq!(names(&some.workers[1]), ["rx-packets", "policy-deny"]);
    let all = client.show_counters(v1::ShowCountersRequest { all: true }).await.unwrap().into_inner();
    assert_eq!(names(&all.workers[0]), ["rx-packets", "alg-edits", "punted", "no-route", "policy-deny"]);
}

#[tokio::test]
async fn a_policy_is_checked() {
    let running = start(10);
    let mut client = client(&running.path).await;
    let mut check = async |file_name: &str, toml: String| {
        let request = v1::CheckPolicyRequest { file_name: file_name.to_owned(), toml };
        client.check_policy(request).await.map(|answer| answer.into_inner().problems)
    };
    assert_eq!(check("good.toml", GOOD.to_owned()).await.unwrap(), []);

    let problems = check("bad.toml", format!("{GOOD}\n[[rule]]\nacton = \"allow\"\n")).await.unwrap();
    let line = GOOD.lines().count() as u32 + 3;
    let unknown = problems.iter().find(|p| p.message.contains("acton")).unwrap();
    assert_eq!((unknown.line, unknown.column), (line, 1));
    assert!(unknown.expected.contains("action"), "{unknown:?}");

    let refused = check("", GOOD.to_owned()).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "file_name: must not be empty"));
    let refused = check("big.toml", "#".repeat(MAX_POLICY_BYTES + 1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().starts_with("toml: "), "{}", refused.message());
}

#[test]
fn the_socket_is_for_owner_and_group_and_goes_with_the_server() {
    let running = start(10);
    let metadata = fs::symlink_metadata(&running.path).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o660);
    running.server.stop();
    assert!(!running.path.exists());
}

#[tokio::test]
async fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let running = start(10);
    let refused = Server::start(&running.path, Fake::new(1)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!("another posternd already listens on {}", running.path.display())
    );
    let status = client(&running.path).await.status(v1::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.version, "9.8.7");
}

#[tokio::test]
async fn what_a_dead_daemon_left_is_replaced() {
    let (_dir, path) = socket();
    fs::create_dir(path.parent().unwrap()).unwrap();
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let server = Server::start(&path, Fake::new(10)).unwrap();
    client(&path).await.status(v1::StatusRequest {}).await.unwrap();
    server.stop();
    assert!(!path.exists());
}

#[test]
fn a_file_that_is_no_socket_stays() {
    let (_dir, path) = socket();
    fs::create_dir(path.parent().unwrap()).unwrap();
    fs::write(&path, "precious").unwrap();
    assert!(matches!(Server::start(&path, Fake::new(1)).unwrap_err(), StartError::NotASocket(_)));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_socket_that_another_took_over_is_not_removed() {
    let running = start(10);
    fs::remove_file(&running.path).unwrap();
    let _other = UnixListener::bind(&running.path).unwrap();
    running.server.stop();
    assert!(running.path.exists());
}

#[test]
fn a_socket_that_cannot_be_made_is_a_sentence() {
    let (dir, _) = socket();
    let long = dir.path().join("x".repeat(120));
    for path in [Path::new("/proc/none/control.sock"), &long] {
        let error = Server::start(path, Fake::new(1)).unwrap_err().to_string();
        assert!(error.starts_with("cannot c") && error.contains(&path.display().to_string()), "{error}");
    }
}

#[tokio::test]
async fn stopping_does_not_wait_for_a_client_that_does_not_read() {
    let running = start(10_000_000);
    let mut client = client(&running.path).await;
    let mut chunks = client.list_sessions(v1::ListSessionsRequest::default()).await.unwrap().into_inner();
    assert!(chunks.message().await.unwrap().is_some());
    settled(&running.fake).await;

    let started = Instant::now();
    let path = running.path.clone();
    tokio::task::spawn_blocking(move || running.server.stop()).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(1), "took {:?}", started.elapsed());
    assert!(!path.exists());
}
