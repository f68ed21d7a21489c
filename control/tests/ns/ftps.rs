//! FTP over TLS (AUTH TLS): vsftpd, curl and lftp. The rule allows the control port alone, and nobody can read what is negotiated.

use super::command::{Output, run};
use super::nat::Nat;
use super::peers::{FtpServer, Mode, same_content};
use super::world::{Place, World};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The ports that vsftpd has for passive data.
const RANGE: &str = "blind = \"passive\"\npassive_ports = \"40000-41000\"\n";
const ALLOW: &str = "blind = \"allow\"\n";
const DENY: &str = "blind = \"deny\"\n";

fn profile(keys: &str) -> String {
    format!("[[alg]]\nname = \"files\"\nprotocol = \"ftp\"\n{keys}\n")
}

/// vsftpd with a certificate of its own making. 227 names the address that clients call.
fn server(world: &World, nat: Nat) -> FtpServer {
    let pem = world.files.path().join("ftps.pem");
    run(Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=ftps.test"])
        .arg("-keyout")
        .arg(&pem)
        .arg("-out")
        .arg(world.files.path().join("ftps.crt")))
    .expect_ok("openssl req");
    let mut both = fs::read(&pem).unwrap();
    both.extend(fs::read(world.files.path().join("ftps.crt")).unwrap());
    fs::write(&pem, both).unwrap();
    let more = format!(
        "ssl_enable=YES\nallow_anon_ssl=YES\nforce_local_data_ssl=NO\nforce_local_logins_ssl=NO\n\
         require_ssl_reuse=NO\nssl_ciphers=HIGH\nrsa_cert_file={pem}\nrsa_private_key_file={pem}\n\
         pasv_address={called}\n",
        pem = pem.display(),
        called = nat.called(),
    );
    FtpServer::start_with(world, &more)
}

/// curl, over TLS or not at all.
fn fetch(world: &World, mode: Mode, place: &str, seconds: u32) -> (Output, PathBuf) {
    let target = world.files.path().join(format!("secret-{}", mode.command()));
    let _ = fs::remove_file(&target);
    let most = seconds.to_string();
    let output = run(world
        .limited(Place::Client, seconds + 10, "curl")
        .args(["-sS", "--ssl-reqd", "--insecure", "--connect-timeout", "5", "--max-time", &most])
        .args(["--no-ftp-skip-pasv-ip", "-o"])
        .arg(&target)
        .args(mode.curl())
        .arg(format!("ftp://{place}/file")));
    (output, target)
}

fn through(nat: Nat) {
    let Some(world) = World::new() else { return };
    let gateway = nat.start(&world, "ftp", &profile(RANGE));
    let server = server(&world, nat);
    for mode in [Mode::Epsv, Mode::Pasv] {
        let (output, target) = fetch(&world, mode, nat.called(), 30);
        output.expect_ok(&format!("encrypted download with {} through {nat:?}", mode.command()));
        same_content(&target, &server.content);
        server.saw(&format!("\"{}", mode.command()));
    }
    server.saw("\"AUTH");
    gateway.audited("alg-blind", |r| r["reason"] == "encrypted");
    let opened = gateway.audited("expectation-opened", |r| r["application"] == "ftp-data");
    gateway.audited("session-open", |r| r["application"] == "ftp-data" && r["parent"] == opened["parent"]);
    assert_eq!((gateway.counter("expectations-opened"), gateway.counter("expectations-hit")), (2, 2));
    assert_eq!(gateway.counter("sessions-opened"), 4);
}

#[test]
fn passive_data_through_source_nat() {
    through(Nat::Source);
}

#[test]
fn passive_data_through_destination_nat() {
    through(Nat::Destination);
}

#[test]
fn passive_data_through_both() {
    through(Nat::Both);
}

#[test]
fn passive_data_without_nat() {
    through(Nat::None);
}

/// The control case: without the range the control session passes, and no data.
#[test]
fn no_passive_data_without_the_range() {
    let Some(world) = World::new() else { return };
    let gateway = Nat::Source.start(&world, "ftp", &profile(ALLOW));
    let server = server(&world, Nat::Source);
    let (output, _) = fetch(&world, Mode::Epsv, Nat::Source.called(), 8);
    output.expect_failure("encrypted download without a range");
    server.saw("\"AUTH");
    server.saw("\"EPSV");
    gateway.audited("alg-blind", |r| r["reason"] == "encrypted");
    assert_eq!((gateway.counter("expectations-opened"), gateway.counter("sessions-opened")), (0, 1));
    assert!(gateway.counter("policy-deny") > 0, "the data connection was tried");
}

/// AUTH never reaches the server; a client that takes clear text for an answer gets its file.
#[test]
fn a_denied_auth_leaves_clear_text() {
    let Some(world) = World::new() else { return };
    let gateway = Nat::Source.start(&world, "ftp", &profile(DENY));
    let server = server(&world, Nat::Source);
    let (output, _) = fetch(&world, Mode::Epsv, Nat::Source.called(), 8);
    output.expect_failure("TLS where none may be");
    assert!(!server.protocol().contains("AUTH"), "{}", server.protocol());
    gateway.audited("alg-message", |r| r["before"].to_string().contains("AUTH") && r["after"] == "");
    server.fetch_ok(&world, Mode::Epsv);
    assert_eq!(gateway.counter("alg-blind"), 0);
}

/// lftp keeps its control connection for several files.
#[test]
fn several_files_in_one_session() {
    let Some(world) = World::new() else { return };
    let gateway = Nat::Source.start(&world, "ftp", &profile(RANGE));
    let server = server(&world, Nat::Source);
    let folder = world.files.path().join("lftp");
    fs::create_dir(&folder).unwrap();
    let script = format!(
        "set ssl:verify-certificate no; set ftp:ssl-force true; set ftp:ssl-allow-anonymous true; set ftp:ssl-protect-data true; set net:timeout 8; \
         set net:max-retries 1; set cmd:fail-exit true; open ftp://{}; get file -o {}/a; get file -o {}/b",
        Nat::Source.called(),
        folder.display(),
        folder.display(),
    );
    run(world.limited(Place::Client, 60, "lftp").args(["-c", &script])).expect_ok("lftp");
    for name in ["a", "b"] {
        same_content(&folder.join(name), &server.content);
    }
    assert_eq!(gateway.counter("alg-blind"), 1);
    assert!(gateway.counter("expectations-hit") >= 2);
}
