use super::*;
use Side::{Initiator, Responder};

/// Who speaks, and what.
type Script<'a> = &'a [(Side, &'a [u8])];

fn all() -> Detector {
    Detector::new(|_| true).unwrap()
}

/// Feeds a script in pieces of `piece` bytes. Answers what the flow is, and how many bytes were looked at before.
fn run(mut detector: Detector, script: Script, piece: usize) -> (Option<Application>, usize) {
    let (mut held, mut seen) = ([Vec::new(), Vec::new()], 0);
    for (from, bytes) in script {
        for part in bytes.chunks(piece) {
            let unread = &mut held[*from as usize];
            unread.extend_from_slice(part);
            seen += part.len();
            match detector.look(*from, unread) {
                Detection::Unsure => {}
                Detection::Goes => unread.clear(),
                Detection::Is(bound) => return (Some(bound.application()), seen),
                Detection::Nothing => return (None, seen),
            }
        }
    }
    (None, usize::MAX)
}

fn detect(script: Script) -> Option<Application> {
    let whole = run(all(), script, usize::MAX).0;
    for piece in 1..20 {
        assert_eq!(run(all(), script, piece).0, whole, "pieces of {piece}: {script:?}");
    }
    whole
}

const REGISTER: &[u8] = b"REGISTER sip:198.51.100.2 SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.2:5060;branch=z9hG4bK1\r\n\
    From: <sip:a@198.51.100.2>;tag=1\r\nTo: <sip:a@198.51.100.2>\r\nCall-ID: 1@10.1.0.2\r\nCSeq: 1 REGISTER\r\n\
    Contact: <sip:a@10.1.0.2:5060>\r\nContent-Length: 0\r\n\r\n";

#[test]
fn ftp_by_its_greeting() {
    for greeting in [
        "220 (vsFTPd 3.0.3)\r\n",
        "220 ProFTPD Server (Debian) [::ffff:10.0.0.1]\r\n",
        "220---------- Welcome to Pure-FTPd [privsep] [TLS] ----------\r\n220 Bye\r\n",
        "220-Welcome\r\n to the archive\r\n220-of the FTP site\r\n220 ready\r\n",
        "220 Microsoft FTP Service\r\n",
        "220 host FTP server (GNU inetutils 2.4) ready.\n",
    ] {
        assert_eq!(detect(&[(Responder, greeting.as_bytes())]), Some(Application::Ftp), "{greeting}");
    }
    let first = b"220 ftp.example.org FTP server ready\r\n";
    assert_eq!(
        run(all(), &[(Responder, first)], 1),
        (Some(Application::Ftp), first.len()),
        "by a whole line"
    );
}

#[test]
fn ftp_by_its_clients_first_command() {
    for greeting in
        ["220 ready\r\n", "220-FileZilla Server 1.8.0\r\n220 Please visit https://filezilla-project.org/\r\n"]
    {
        let after = |said: &[u8]| detect(&[(Responder, greeting.as_bytes()), (Initiator, said)]);
        for said in [&b"USER anonymous\r\n"[..], b"auth TLS\r\n", b"FEAT\r\n", b"OPTS UTF8 ON\r\n", b"SYST\n"]
        {
            assert_eq!(after(said), Some(Application::Ftp), "{said:?}");
        }
        for said in [
            &b"EHLO client\r\n"[..],
            b"HELO client\r\n",
            b"QUIT\r\n",
            b"USERS\r\n",
            b"POST / HTTP/1.1\r\n",
            b"\x16\x03\x01\x02\0",
            b"USE\r\n",
        ] {
            assert_eq!(after(said), None, "{said:?}");
        }
    }
    // What follows is as if the ALG had read the greeting itself.
    let mut detector = all();
    assert_eq!(detector.look(Responder, b"220 ready\r\n"), Detection::Goes);
    assert_eq!(detector.look(Initiator, b"USE"), Detection::Unsure);
    assert_eq!(detector.look(Initiator, b"USER "), Detection::Is(Bound::Ftp(ftp::Ftp::greeted())));
}

#[test]
fn sip_and_rtsp_by_their_clients_first_line() {
    for (application, line) in [
        (Application::Sip, &b"REGISTER sip:198.51.100.2 SIP/2.0\r\n"[..]),
        (Application::Sip, b"INVITE SIPS:b@example.org;transport=tcp SIP/2.0\r\n"),
        (Application::Sip, b"INVITE tel:+15551234 SIP/2.0\r\n"),
        (Application::Sip, b"INVITE urn:service:sos SIP/2.0\n"),
        (Application::Sip, b"OPTIONS sip:b@198.51.100.2 SIP/2.0\r\n"),
        (Application::Sip, b"SIP/2.0 200 OK\r\n"),
        (Application::Rtsp, b"OPTIONS * RTSP/1.0\r\n"),
        (Application::Rtsp, b"DESCRIBE rtsp://198.51.100.2/a RTSP/1.0\r\n"),
        (Application::Rtsp, b"SETUP RTSPS://198.51.100.2/a RTSP/2.0\r\n"),
    ] {
        assert_eq!(detect(&[(Initiator, line)]), Some(application), "{line:?}");
        assert_eq!(detect(&[(Responder, line)]), None, "a server does not begin with it");
        let late = [(Initiator, &line[..4]), (Responder, b"x"), (Initiator, &line[4..])];
        assert_eq!(detect(&late), None, "the other end has spoken meanwhile");
    }
}

/// Who greets, and how much of that is looked at.
#[test]
fn others_are_known_by_their_first_bytes() {
    let most = |bytes: &[u8]| bytes.iter().position(|b| *b == b'\n').map_or(bytes.len(), |at| at + 1);
    for greeting in [
        &b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"[..],
        b"+OK POP3 ready <1@mail>\r\n",
        b"* OK [CAPABILITY IMAP4rev1] ready\r\n",
        b"200 news.example.org InterNetNews ready\r\n",
        b"J\0\0\0\n8.0.36\0\x08\0\0\0",
        b"RFB 003.008\n",
        b"\xff\xfd\x18\xff\xfd ",
        b"HTTP/1.1 200 OK\r\n",
        b":irc.example.org NOTICE * :*** Looking up your hostname\r\n",
        b"221 x\r\n",
        b"22\r\n",
        b"220\r\n",
        b"220x ftp\r\n",
    ] {
        let (is, seen) = run(all(), &[(Responder, greeting)], 1);
        assert_eq!(is, None);
        assert!(seen <= 4, "{seen} of {:?}", String::from_utf8_lossy(greeting));
        assert_eq!(detect(&[(Responder, greeting)]), None);
    }
    for mail in [
        &b"220 mail.example.org ESMTP Postfix\r\n"[..],
        b"220-ftp.example.org ESMTP Exim 4.96\r\n220 and FTP is no reason\r\n",
        b"220-Hello\r\n220 example.org SMTP, not FTP\r\n",
    ] {
        let (is, seen) = run(all(), &[(Responder, mail)], 1);
        assert!(is.is_none() && seen <= mail.len(), "{seen} of {:?}", String::from_utf8_lossy(mail));
        assert_eq!(detect(&[(Responder, mail)]), None);
    }
    for (said, longest) in [
        (&b"\x16\x03\x01\x02\0\x01\0\x01\xfc"[..], 1),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 4),
        (b"POST / HTTP/1.1\r\n", 2),
        (b"HEAD / HTTP/1.1\r\n", 1),
        (b"PUT /a HTTP/1.1\r\n", 3),
        (b"OPTIONS / HTTP/1.1\r\n", 9),
        (b"REGISTER / HTTP/1.1\r\n", 10),
        (b"REGISTER http://x/ HTTP/1.1\r\n", 10),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 3),
        (b"CONNECT x:443 HTTP/1.1\r\n", 2),
        (b"SSH-2.0-PuTTY\r\n", 2),
        (b"EHLO x\r\n", 1),
        (b"USER x\r\n", 2),
        (b"NICK x\r\n", 2),
        (b"\r\n", 1),
        (b"\r\n\r\nREGISTER sip:x SIP/2.0\r\n", 1),
        (b"*1\r\n$4\r\nPING\r\n", 1),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", 1),
        (b"\0\x03\0\x10\x21\x12\xa4\x42", 1),
        (b" REGISTER sip:x SIP/2.0\r\n", 1),
        (b"register sip:x SIP/2.0\r\n", 1),
        (b"FOO sip:x SIP/2.0\r\n", 1),
    ] {
        let (is, seen) = run(all(), &[(Initiator, said)], 1);
        assert!(is.is_none() && seen <= longest, "{seen} of {:?}", String::from_utf8_lossy(said));
        assert_eq!(detect(&[(Initiator, said)]), None);
    }
    for line in [
        &b"OPTIONS * HTTP/1.1\r\n"[..],
        b"OPTIONS * SIP/2.0\r\n",
        b"OPTIONS sip:x HTTP/1.1\r\n",
        b"REGISTER sip:x SIP/2.0 \r\n",
        b"SETUP rtsp://x/ SIP/2.0\r\n",
        b"SIP/2.0 2000 OK\r\n",
        b"REGISTER\r\n",
        b"REGISTER sip\r\n",
    ] {
        let (is, seen) = run(all(), &[(Initiator, line)], 1);
        assert!(is.is_none() && seen <= most(line), "{:?}", String::from_utf8_lossy(line));
        assert_eq!(detect(&[(Initiator, line)]), None);
    }
}

/// A browser's form, or its TURN request, with a message that follows, wherever a segment begins.
#[test]
fn what_follows_is_no_beginning() {
    let form: &[u8] = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n";
    let turn: &[u8] =
        b"\0\x03\0\x40\x21\x12\xa4\x42\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\0\x06\0\x38";
    for first in [form, turn, b"\x16\x03\x01"] {
        for message in [REGISTER, b"SETUP rtsp://x/ RTSP/1.0\r\n\r\n", b"USER a\r\nPORT 10,1,0,2,13,61\r\n"] {
            assert_eq!(detect(&[(Initiator, first), (Initiator, message)]), None);
            assert_eq!(
                detect(&[(Initiator, first), (Responder, b"220 FTP\r\n"), (Initiator, message)]),
                None
            );
        }
    }
}

#[test]
fn what_goes_on_for_too_long_is_nothing() {
    let long = [b"INVITE sip:".as_slice(), &[b'a'; MAX_FIRST], b" SIP/2.0\r\n"].concat();
    assert_eq!(run(all(), &[(Initiator, &long)], 1), (None, MAX_FIRST));
    assert_eq!(detect(&[(Initiator, &long)]), None);
    let fits = [b"INVITE sip:".as_slice(), &[b'a'; MAX_FIRST - 21], b" SIP/2.0\r\n"].concat();
    assert_eq!((fits.len(), detect(&[(Initiator, &fits)])), (MAX_FIRST, Some(Application::Sip)));
    let lines = b"220-welcome\r\n".repeat(MAX_FIRST / 13 + 1);
    let late = [&lines[..], b"220 FTP\r\n"].concat();
    assert_eq!(run(all(), &[(Responder, &late)], 1), (None, MAX_FIRST));
    assert_eq!(detect(&[(Responder, &late)]), None);
}

#[test]
fn a_server_that_goes_on_after_its_greeting_waits_for_nobody() {
    assert_eq!(detect(&[(Responder, b"220 ready\r\nmore"), (Initiator, b"USER a\r\n")]), None);
    assert_eq!(detect(&[(Responder, b"220 rea"), (Initiator, b"U"), (Responder, b"dy\r\n")]), None);
}

#[test]
fn a_greeting_that_pauses_is_still_one() {
    let end: &[u8] = b"220 ready\r\n";
    let mut detector = all();
    for line in [&b"220-Welcome\r\n"[..], b" to the archive\r\n220-of the site\r\n"] {
        assert_eq!(detector.look(Responder, line), Detection::Unsure);
        assert!(detector.goes_on(Responder, line));
    }
    assert_eq!(detector.look(Responder, &end[..5]), Detection::Unsure);
    assert_eq!(detector.look(Responder, end), Detection::Goes);
    assert_eq!(detector.look(Initiator, b"USER "), Detection::Is(Bound::Ftp(ftp::Ftp::greeted())));

    let paused = || {
        let mut detector = all();
        detector.look(Responder, b"220-Welcome\r\n");
        assert!(detector.goes_on(Responder, b"220-Welcome\r\n"));
        detector
    };
    assert_eq!(paused().look(Initiator, b"USER a\r\n"), Detection::Nothing, "it was not its turn");
    assert_eq!(paused().look(Responder, b"220 ready\r\nmore"), Detection::Nothing);
    assert!(!paused().goes_on(Responder, b"220-half a li"), "where a line begins would be lost");
    let mut mail = paused();
    assert_eq!(mail.look(Responder, end), Detection::Goes);
    assert_eq!(mail.look(Initiator, b"EHLO x\r\n"), Detection::Nothing);
    // However often it pauses, it ends.
    let (mut endless, mut gone) = (paused(), 13);
    while endless.look(Responder, b"220-more\r\n") == Detection::Unsure {
        assert!(endless.goes_on(Responder, b"220-more\r\n"));
        gone += 10;
    }
    assert!((MAX_FIRST - 10..=MAX_FIRST).contains(&gone), "{gone}");
    // Nothing else goes on.
    for (from, line) in [(Responder, &b"220 rea"[..]), (Initiator, b"OPTIONS sip:a"), (Responder, b"220-x")] {
        let mut detector = all();
        assert_eq!(detector.look(from, line), Detection::Unsure);
        assert!(!detector.goes_on(from, line), "{line:?}");
    }
}

#[test]
fn only_what_is_wanted() {
    let only = |application| Detector::new(|a| a == application);
    let ftp: Script = &[(Responder, b"220 FTP\r\n")];
    let sip: Script = &[(Initiator, b"OPTIONS sip:x SIP/2.0\r\n")];
    assert_eq!(run(only(Application::Sip).unwrap(), ftp, 100), (None, 9));
    assert_eq!(run(only(Application::Ftp).unwrap(), sip, 1), (None, 1));
    assert_eq!(only(Application::Tftp), None);
    let mut detector = all();
    assert_eq!(detector.look(Responder, b"220 ready\r\n"), Detection::Goes);
    assert!(detector.retain(|a| a == Application::Sip));
    assert_eq!(detector.look(Initiator, b"USER a\r\n"), Detection::Nothing, "a commit has taken FTP away");
    assert!(!detector.retain(|a| a == Application::Ftp), "it does not come back");
}

fn of(payload: &[u8]) -> Option<Application> {
    datagram(payload, |_| true).map(|bound| bound.application())
}

#[test]
fn datagrams() {
    assert_eq!(of(b"\0\x01boot/pxelinux.0\0octet\0tsize\x000\0"), Some(Application::Tftp));
    assert_eq!(of(REGISTER), Some(Application::Sip));
    let reply = b"SIP/2.0 200 OK\r\nv: SIP/2.0/UDP 10.1.0.2\r\nf: <sip:a@x>\r\nt: <sip:a@x>\r\ni: 1\r\nCSeq: 1 OPTIONS\r\n\r\n";
    assert_eq!(of(reply), Some(Application::Sip));
    assert_eq!(datagram(REGISTER, |a| a == Application::Tftp), None, "nobody wants it");
    for cut in 0..REGISTER.len() - 2 {
        assert_eq!(of(&REGISTER[..cut]), None, "{cut}");
    }
    for header in ["Via", "From", "To", "Call-ID", "CSeq"] {
        let text = String::from_utf8(REGISTER.to_vec()).unwrap();
        assert_eq!(of(text.replace(&format!("\n{header}:"), "\nX:").as_bytes()), None, "{header}");
    }
}

/// Real first datagrams of other protocols.
#[test]
fn datagrams_of_others() {
    let dns = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x07example\x03org\0\0\x01\0\x01";
    // An identifier and a flags field that read like a request's.
    let near = b"\0\x01octet\0octet\0\0\0\x07example\x03org\0\0\x01\0\x01";
    let quic = [b"\xc3\0\0\0\x01\x08\x83\x94\xc8\xf0\x3e\x51\x57\x08\0\0\x44\x9e".as_slice(), &[0x7b; 1_182]]
        .concat();
    let stun = b"\0\x01\0\x2c\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\0\x06\0\x09evtj:h6vY\0\0\0\
        \0\x24\0\x04\x6e\0\x01\xff\x80\x29\0\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36";
    let turn = [b"\0\x03\x01\x04\x21\x12\xa4\x42abcdefghijkl\0\x06\0\xfa".as_slice(), REGISTER].concat();
    let user = [b"\0\x01\x01\x04\x21\x12\xa4\x42abcdefghijkl\0\x06\x01\0".as_slice(), b"a\0octet\0"].concat();
    let rtp = [b"\x80\0\x1a\x2b\0\0\x03\xe8\xde\xad\xbe\xef".as_slice(), &[0x55; 160]].concat();
    let rtcp = b"\x80\xc9\0\x01\xde\xad\xbe\xef";
    let ntp = [b"\x23\0\x06\xec".as_slice(), &[0; 44]].concat();
    let dtls = b"\x16\xfe\xff\0\0\0\0\0\0\0\0\0\x7a\x01\0\0\x6e\0\0\0\0\0\0\0\x6e\xfe\xfd";
    let wireguard = [b"\x01\0\0\0".as_slice(), &[9; 144]].concat();
    let sntp = [b"\x1b".as_slice(), &[0; 47]].concat();
    let ike = b"\x5a\x6b\x7c\x8d\x9e\xaf\xb0\xc1\0\0\0\0\0\0\0\0\x21\x20\x22\x08\0\0\0\0\0\0\x01\x50";
    let syslog = b"<34>Oct 11 22:14:15 host su: failed";
    let ssdp = b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\n\r\n";
    let mgcp = b"CRCX 1204 aaln/1@rgw.example.net MGCP 1.0\r\nC: 1\r\n\r\n";
    // The server has chosen the identifier that its client's packets to another address begin with: a letter by chance.
    let identifier = [b"ACK a:b SIP/2.0\r\nv:".as_slice(), &[0xd3; 1_100]].concat();
    let line = [b"BYE sip:a SIP/2.0\r\n".as_slice(), &[0xd3; 1_100]].concat();
    for payload in [
        &dns[..],
        near,
        &quic,
        stun,
        &turn,
        &user,
        &rtp,
        rtcp,
        &ntp,
        dtls,
        &wireguard,
        &sntp,
        ike,
        syslog,
        ssdp,
        mgcp,
        &identifier,
        &line,
        b"",
        b"\0",
        b"\r\n\r\n",
        b"\0\0\0\0",
    ] {
        assert_eq!(of(payload), None, "{:?}", String::from_utf8_lossy(payload));
    }
}
