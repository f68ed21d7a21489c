//! Long streams of the control socket: a million sessions, clients that hang up, followers of events.

#![allow(clippy::unwrap_used, clippy::panic)]

mod server_fake;

use control::audit::followers::RING;
use control_api::v1;
use control_api::v1::postern_client::PosternClient;
use server_fake::{FTP, Running, start};
use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Streaming};

async fn client(running: &Running) -> PosternClient<Channel> {
    let endpoint = Endpoint::try_from(format!("unix:{}", running.path.display())).unwrap();
    PosternClient::new(endpoint.connect().await.unwrap())
}

async fn all_sessions(running: &Running) -> Streaming<v1::ListSessionsResponse> {
    client(running).await.list_sessions(v1::ListSessionsRequest::default()).await.unwrap().into_inner()
}

/// Memory that this process has in use, in bytes: server and client together.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn a_million_sessions_begin_at_once_and_take_little_memory() {
    let running = start(2_000_000); // every second index is in use
    let before = resident();
    let started = Instant::now();
    let mut chunks = all_sessions(&running).await;
    let first = chunks.message().await.unwrap().unwrap();
    let to_first = started.elapsed();
    assert!(!first.sessions.is_empty());
    assert!(to_first < Duration::from_secs(1), "the first row took {to_first:?}");

    let (mut rows, mut most) = (first.sessions.len(), 0);
    while let Some(chunk) = chunks.message().await.unwrap() {
        assert!(chunk.sessions.len() <= 128);
        rows += chunk.sessions.len();
        if rows % 65_536 < 128 {
            most = most.max(resident());
        }
    }
    assert_eq!(rows, 1_000_001);
    let grown = most.saturating_sub(before);
    println!("first row {to_first:?}, all {:?}, {} KiB more", started.elapsed(), grown >> 10);
    assert!(grown < 16 << 20, "the list took {} KiB", grown >> 10);
}

#[tokio::test]
async fn a_rare_match_does_not_wait_for_others() {
    let running = start(1_000_000);
    let filter = v1::SessionFilter { application: "ftp".to_owned(), ..v1::SessionFilter::default() };
    let request = v1::ListSessionsRequest { limit: 0, filter: Some(filter) };
    let mut chunks = client(&running).await.list_sessions(request).await.unwrap().into_inner();
    assert_eq!(chunks.message().await.unwrap().unwrap().sessions.len(), 1);
    let looked = running.fake.looked.load(Ordering::Relaxed);
    assert!(looked < 500_000, "the one match came after {looked} of 1 000 000");
}

#[tokio::test]
async fn streams_are_bounded_and_a_hang_up_makes_room() {
    let running = start(10_000_000);
    let mut held = Vec::new();
    let refused = loop {
        // Fresh connections: one alone has its own limit.
        match client(&running).await.list_sessions(v1::ListSessionsRequest::default()).await {
            Ok(answer) => held.push(answer.into_inner()),
            Err(refused) => break refused,
        }
        assert!(held.len() < 1_000, "no bound");
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert_eq!(held.len(), 32);
    // What is no stream goes on.
    client(&running).await.status(v1::StatusRequest {}).await.unwrap();

    held.pop();
    let patience = Instant::now();
    while client(&running).await.list_sessions(v1::ListSessionsRequest::default()).await.is_err() {
        assert!(patience.elapsed() < Duration::from_secs(5), "a hang-up makes no room");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn connections_are_bounded_and_one_that_ends_makes_room() {
    let running = start(10);
    let connect = || {
        let stream = UnixStream::connect(&running.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        stream
    };
    // One that was accepted says hello, or waits for ours; one that was not is at its end.
    let is_open = |mut stream: &UnixStream| !matches!(stream.read(&mut [0; 64]), Ok(0));
    let held: Vec<_> = (0..64).map(|_| connect()).collect();
    assert!(!is_open(&connect()), "one too many");
    assert!(is_open(&held[0]) && is_open(&held[63]), "the others stay");
    drop(held);
    let patience = Instant::now();
    while !is_open(&connect()) {
        assert!(patience.elapsed() < Duration::from_secs(5), "an end makes no room");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    client(&running).await.status(v1::StatusRequest {}).await.unwrap();
}

#[tokio::test]
async fn a_follower_gets_what_is_written_from_then_on() {
    let running = start(10);
    running.fake.followers.tell("before");
    let mut chunks =
        client(&running).await.follow_events(v1::FollowEventsRequest {}).await.unwrap().into_inner();
    for text in ["{\"n\":1}", "{\"n\":2}"] {
        running.fake.followers.tell(text);
    }
    let mut got = Vec::new();
    while got.len() < 2 {
        let chunk = chunks.message().await.unwrap().unwrap();
        assert_eq!(chunk.lost, 0);
        got.extend(chunk.records);
    }
    assert_eq!(got, ["{\"n\":1}", "{\"n\":2}"]);

    // A hang-up is noticed without another record.
    drop(chunks);
    let patience = Instant::now();
    while running.fake.followers.any() {
        assert!(patience.elapsed() < Duration::from_secs(5), "a follower that left is kept");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_slow_follower_loses_records_knows_how_many_and_holds_nobody_up() {
    let running = start(10);
    let mut chunks =
        client(&running).await.follow_events(v1::FollowEventsRequest {}).await.unwrap().into_inner();
    // More than ring, channel and socket hold, while nobody reads.
    let (count, record) = (20 * RING as u64, "x".repeat(1_000));
    let started = Instant::now();
    for _ in 0..count {
        running.fake.followers.tell(&record);
    }
    let took = started.elapsed();
    assert!(took < Duration::from_secs(2), "telling took {took:?}");
    running.fake.followers.tell("last");

    let (mut lost, mut got) = (0, 0);
    loop {
        let chunk = chunks.message().await.unwrap().unwrap();
        lost += chunk.lost;
        got += chunk.records.len() as u64;
        if chunk.records.last().is_some_and(|record| record == "last") {
            break;
        }
    }
    assert_eq!(lost + got, count + 1);
    assert!(lost > 0 && got >= RING as u64, "lost {lost}, got {got}");
}

#[tokio::test]
async fn a_follower_is_told_when_the_daemon_stops() {
    let running = start(10);
    let mut chunks =
        client(&running).await.follow_events(v1::FollowEventsRequest {}).await.unwrap().into_inner();
    tokio::task::spawn_blocking(move || running.server.stop()).await.unwrap();
    assert_eq!(chunks.message().await.unwrap_err().code(), Code::Unavailable);
}

/// Asks for the status again and again while `scan` runs, and says whether an answer came in the middle of it: `looked`
/// says how far it is, of `all`.
async fn answered_meanwhile(
    running: &Running,
    scan: impl Future<Output = ()> + Send + 'static,
    looked: impl Fn() -> u32,
    all: u32,
) -> bool {
    let mut other = client(running).await;
    let before = looked();
    let scanning = tokio::spawn(scan);
    let mut meanwhile = false;
    while !scanning.is_finished() {
        other.status(v1::StatusRequest {}).await.unwrap();
        meanwhile |= (1..all).contains(&(looked() - before));
    }
    scanning.await.unwrap();
    assert_eq!(looked() - before, all, "it looked at everything");
    meanwhile
}

/// Scans that a busy machine may let pass before anything is answered.
const TRIES: usize = 10;

#[tokio::test]
async fn the_count_of_a_profiles_sessions_lets_others_have_their_turn() {
    let all = 4_000_000;
    let running = start(all);
    let mut meanwhile = false;
    for _ in 0..TRIES {
        let mut algs = client(&running).await;
        let scan = async move {
            let answer = algs.list_algs(v1::ListAlgsRequest {}).await.unwrap().into_inner();
            assert_eq!(answer.algs.iter().map(|alg| alg.sessions).collect::<Vec<_>>(), [1, 0]);
        };
        let looked = || running.fake.looked.load(Ordering::Relaxed);
        meanwhile = answered_meanwhile(&running, scan, looked, all).await;
        if meanwhile {
            break;
        }
    }
    assert!(meanwhile, "nothing was answered before the end of the scan");
}

#[tokio::test]
async fn a_sessions_expectations_are_sought_while_others_have_their_turn() {
    let all = 4_000_000;
    let running = start(10);
    running.fake.expectations.store(all, Ordering::Relaxed);
    let mut meanwhile = false;
    for _ in 0..TRIES {
        let mut shower = client(&running).await;
        let scan = async move {
            let request = v1::ShowSessionRequest { id: format!("{FTP}.7") };
            let answer = shower.show_session(request).await.unwrap().into_inner();
            assert_eq!(answer.expectations.iter().map(|e| e.id.as_str()).collect::<Vec<_>>(), ["3.2"]);
        };
        let looked = || running.fake.looked_ahead.load(Ordering::Relaxed);
        meanwhile = answered_meanwhile(&running, scan, looked, all).await;
        if meanwhile {
            break;
        }
    }
    assert!(meanwhile, "nothing was answered before the end of the scan");
}
