//! What changes the gateway over the control socket: who may, what is asked of the control core, and what comes back.
//! The tests run as root, as the daemon does; one goes as somebody else.

#![allow(clippy::unwrap_used, clippy::panic)]

mod server_fake;

use control_api::MAX_MESSAGE_BYTES;
use control_api::v1::postern_client::PosternClient;
use control_api::{MAX_POLICY_BYTES, v1};
use server_fake::{GOOD, Running, start};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

async fn client(path: &Path) -> PosternClient<Channel> {
    let endpoint = Endpoint::try_from(format!("unix:{}", path.display())).unwrap();
    PosternClient::new(endpoint.connect().await.unwrap()).max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// Whether this test runs as root. Others may not change anything.
fn root() -> bool {
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !root {
        eprintln!("skipped: not root");
    }
    root
}

async fn clear(running: &Running, filter: Option<v1::SessionFilter>, all: bool) -> Result<u64, Status> {
    let request = v1::ClearSessionsRequest { filter, all };
    client(&running.path).await.clear_sessions(request).await.map(|answer| answer.into_inner().cleared)
}

#[tokio::test]
async fn the_sessions_that_match_are_cleared_and_no_other() {
    if !root() {
        return;
    }
    let running = start(10_000);
    let tcp = v1::SessionFilter { protocol: "tcp".to_owned(), ..v1::SessionFilter::default() };
    assert_eq!(clear(&running, Some(tcp), false).await.unwrap(), 2);
    let indexes = |running: &Running| -> Vec<u32> {
        running.fake.cleared.lock().unwrap().iter().map(|id| id.index).collect()
    };
    assert_eq!(indexes(&running), [4, 5]);
    let one = v1::SessionFilter { id: "6.7".to_owned(), ..v1::SessionFilter::default() };
    assert_eq!(clear(&running, Some(one.clone()), false).await.unwrap(), 1);
    let gone = v1::SessionFilter { id: "6.8".to_owned(), ..one };
    assert_eq!(clear(&running, Some(gone), false).await.unwrap(), 0);
    assert_eq!(indexes(&running), [4, 5, 6]);

    for filter in [None, Some(v1::SessionFilter::default())] {
        let refused = clear(&running, filter, false).await.unwrap_err();
        let expected = "filter: must not be empty unless `all` is set";
        assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, expected));
    }
    assert_eq!(clear(&running, None, true).await.unwrap(), 5_001);
    assert_eq!(indexes(&running).len(), 5_004);
}

async fn commit(running: &Running, text: String) -> Result<v1::CommitPolicyResponse, Status> {
    let request = v1::CommitPolicyRequest { file_name: "new.toml".to_owned(), toml: text };
    client(&running.path).await.commit_policy(request).await.map(Response::into_inner)
}

#[tokio::test]
async fn a_commit_takes_over_or_changes_nothing() {
    if !root() {
        return;
    }
    let running = start(10);
    let show = async || {
        let answer = client(&running.path).await.show_policy(v1::ShowPolicyRequest {}).await;
        let v1::ShowPolicyResponse { generation, file_name, toml } = answer.unwrap().into_inner();
        (generation, file_name, toml)
    };
    let first = (3, "/etc/postern/postern.toml".to_owned(), GOOD.to_owned());
    assert_eq!(show().await, first);

    let broken = commit(&running, format!("{GOOD}colour = \"blue\"\n")).await.unwrap();
    assert_eq!((broken.generation, broken.problems.len()), (3, 1));
    assert!(broken.problems[0].message.contains("colour"), "{broken:?}");
    let restart = commit(&running, GOOD.replace("10.1.0.1/24", "10.9.0.1/24")).await.unwrap();
    assert_eq!(restart.problems.len(), 1);
    let sentence = "interface \"inside\": addresses changes: that needs a restart";
    assert_eq!((restart.problems[0].line, restart.problems[0].message.as_str()), (0, sentence));
    assert_eq!(show().await, first);

    let text = GOOD.replace("\"all\"", "\"everything\"");
    let taken = commit(&running, text.clone()).await.unwrap();
    assert_eq!((taken.generation, taken.problems), (4, Vec::new()));
    assert_eq!(show().await, (4, "new.toml".to_owned(), text));

    let big = commit(&running, "#".repeat(MAX_POLICY_BYTES + 1)).await.unwrap_err();
    assert_eq!(big.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_difference_says_what_a_commit_would_do() {
    let running = start(10);
    let diff = async |text: String| {
        let request = v1::DiffPolicyRequest { file_name: "new.toml".to_owned(), toml: text };
        client(&running.path).await.diff_policy(request).await.unwrap().into_inner()
    };
    let same = diff(format!("# a comment\n{GOOD}")).await;
    assert_eq!((same.generation, same.diff.as_str(), same.problems.len()), (3, "", 0));

    let other = diff(GOOD.replace("\"all\"", "\"everything\"").replace("10.1.0.1/24", "10.9.0.1/24")).await;
    let lines: Vec<_> = other.diff.lines().collect();
    assert_eq!(lines[..2], ["--- /etc/postern/postern.toml (generation 3)", "+++ new.toml"]);
    for line in ["-name = \"all\"", "+name = \"everything\"", " action = \"allow\""] {
        assert!(lines.contains(&line), "no {line:?} in\n{}", other.diff);
    }
    assert_eq!(other.restart_needed, ["interface \"inside\": addresses changes"]);

    let broken = diff(format!("{GOOD}colour = \"blue\"\n")).await;
    assert_eq!((broken.problems.len(), broken.diff.as_str()), (1, ""));
}

/// Set for the process that is somebody else: the socket.
const SOCKET: &str = "POSTERN_TEST_SOCKET";
/// Somebody else: nobody, on every system.
const NOBODY: u32 = 65_534;

#[test]
fn the_group_may_read_and_not_change() {
    if !root() {
        return;
    }
    let running = start(10);
    let folder = running.path.parent().unwrap().parent().unwrap();
    fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    chown(&running.path, None, Some(NOBODY)).unwrap();
    // The build's folder may be closed to others.
    let program = folder.join("test");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let somebody = |gid| {
        Command::new(&program)
            .args(["--exact", "somebody_else", "--nocapture"])
            .env(SOCKET, &running.path)
            .current_dir("/")
            .uid(NOBODY)
            .gid(gid)
            .output()
            .unwrap()
    };
    let output = somebody(NOBODY);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    assert!(said.contains("refused as it should be"), "{said}");
    assert_eq!(running.fake.cleared.lock().unwrap().len(), 0);
    assert_eq!(running.fake.policy.lock().unwrap().generation, 3);

    // Not even a member of the group.
    let output = somebody(NOBODY - 1);
    assert!(!output.status.success(), "{output:?}");
}

/// Runs in the process that the test above starts; alone, it does nothing.
#[tokio::test]
async fn somebody_else() {
    let Some(path) = std::env::var_os(SOCKET) else { return };
    let mut client = client(Path::new(&path)).await;
    client.status(v1::StatusRequest {}).await.unwrap();
    client.show_policy(v1::ShowPolicyRequest {}).await.unwrap();
    let request = v1::DiffPolicyRequest { file_name: "new.toml".to_owned(), toml: GOOD.to_owned() };
    client.diff_policy(request).await.unwrap();

    let refused = |status: Status, sentence: &str| {
        assert_eq!((status.code(), status.message()), (Code::PermissionDenied, sentence));
    };
    let request = v1::ClearSessionsRequest { filter: None, all: true };
    let status = client.clear_sessions(request).await.unwrap_err();
    refused(status, "only root may clear sessions; user 65534 may read");
    let request = v1::CommitPolicyRequest { file_name: "new.toml".to_owned(), toml: GOOD.to_owned() };
    let status = client.commit_policy(request).await.unwrap_err();
    refused(status, "only root may commit a policy; user 65534 may read");
    println!("refused as it should be");
}
