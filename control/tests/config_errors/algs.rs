//! Errors of `[[alg]]` and its rules.

use super::{INTERFACES, errors, expect, rule};

#[test]
fn profiles() {
    for (lines, message) in [
        (
            "protocol = 'ftp'\nmode = »'deep'",
            "unknown mode \"deep\"; expected one of off, monitor, inspect, full, strict",
        ),
        ("protocol = 'ftp'\noverflow = »'drop'", "unknown overflow \"drop\"; expected one of reset, pass"),
        (
            "protocol = 'ftp'\nmode = 'monitor'\noverflow = »'reset'",
            "a profile of mode monitor ends no session; expected overflow = \"pass\", or no \"overflow\"",
        ),
        (
            "protocol = 'tftp'\noverflow = »'pass'",
            "\"overflow\" is of streams alone; expected a protocol over TCP, or no \"overflow\"",
        ),
        (
            "protocol = »'pptp'",
            "alg protocol \"pptp\" is not available in this release; expected one of ftp, tftp, sip, rtsp",
        ),
        ("protocol = 'ftp'\ndetect = »'any'", "\"detect\" is a string; expected true or false"),
        ("protocol = 'ftp'\non_change = »'stay'", "unknown on_change \"stay\"; expected one of keep, drop"),
        (
            "protocol = 'sip'\nbare_lf = »true",
            "\"bare_lf\" is of ftp alone; expected protocol ftp, or no \"bare_lf\"",
        ),
        (
            "protocol = 'rtsp'\nquit_closes_data = »true",
            "\"quit_closes_data\" is of ftp alone; expected protocol ftp, or no \"quit_closes_data\"",
        ),
        (
            "protocol = 'sip'\nteardown_closes_media = »true",
            "\"teardown_closes_media\" is of rtsp alone; expected protocol rtsp, or no \"teardown_closes_media\"",
        ),
        (
            "protocol = 'ftp'\nforbidden_ports = [»'9-8']",
            "bad port \"9-8\"; expected a port from 1 to 65535 or a range such as 6881-6899",
        ),
        (
            "protocol = 'ftp'\nforbidden_ports = »[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]",
            "\"forbidden_ports\" names 17 ranges; expected at most 16",
        ),
        ("protocol = 'ftp'\nblind = »'pass'", "unknown blind \"pass\"; expected one of allow, deny, passive"),
        (
            "protocol = 'sip'\nblind = »'passive'",
            "blind = \"passive\" for sip; expected allow or deny: passive is of ftp alone",
        ),
        (
            "protocol = 'ftp'\nblind = »'passive'",
            "blind = \"passive\" without \"passive_ports\"; expected ports such as \"50000-50999\"",
        ),
        (
            "protocol = 'ftp'\nblind = 'deny'\npassive_ports = »'1024-2000'",
            "\"passive_ports\" without blind = \"passive\"; expected both, or neither",
        ),
        (
            "protocol = 'ftp'\nblind = 'passive'\npassive_ports = »'1000-2000'",
            "\"passive_ports\" 1000-2000 that no pinhole may lead to; expected ports from \"lowest_port\" up, and none of \
             \"forbidden_ports\"",
        ),
        (
            "protocol = 'ftp'\nforbidden_ports = [3389]\nblind = 'passive'\npassive_ports = »'3000-4000'",
            "\"passive_ports\" 3000-4000 that no pinhole may lead to; expected ports from \"lowest_port\" up, and none of \
             \"forbidden_ports\"",
        ),
        ("protocol = 'sip'\nlimits = »64", "\"limits\" is an integer; expected one table, [alg.limits]"),
        (
            "protocol = 'sip'\nlimits = { »per_call = 4 }",
            "unknown key \"per_call\" in [alg.limits]; expected one of per_session, per_host, total, per_second",
        ),
        (
            "protocol = 'sip'\n[alg.limits]\nper_host = »0",
            "bad per_host \"0\"; expected an integer from 1 to 1048576",
        ),
        (
            "protocol = 'sip'\n[alg.limits]\ntotal = »1.5",
            "\"total\" is a float; expected an integer from 1 to 1048576",
        ),
        ("protocol = 'sip'\ntransaction = »7", "bad transaction \"7\"; expected an integer from 8 to 600"),
        ("protocol = 'sip'\nringing = »'4m'", "\"ringing\" is a string; expected an integer from 60 to 3600"),
        (
            "protocol = 'rtsp'\ncall_idle = »30",
            "\"call_idle\" is of sip alone; expected protocol sip, or no \"call_idle\"",
        ),
        ("protocol = 'sip'\nrewrite = »'all'", "unknown rewrite \"all\"; expected one of minimal, full"),
        (
            "protocol = 'ftp'\ndefault = true\n[[alg]]\nname = 'b'\nprotocol = 'ftp'\ndefault = »true",
            "a second default profile of ftp; expected one default profile a protocol",
        ),
    ] {
        expect(&format!("[[alg]]\nname = 'a'\n{lines}"), message);
    }
    expect(
        "[[alg]]\nname = »'built-in'\nprotocol = 'ftp'",
        "\"built-in\" is the profile of a protocol that the file leaves alone; expected another name",
    );
    let many: String = (0..60).map(|n| format!("[[alg]]\nname = 'a{n}'\nprotocol = 'ftp'\n")).collect();
    expect(
        &format!("{many}»[[alg]]\nname = 'b'\nprotocol = 'ftp'"),
        "one profile too many; expected at most 60",
    );
}

#[test]
fn profiles_of_a_rule() {
    let two = "[[alg]]\nname = 'a'\nprotocol = 'ftp'\n[[alg]]\nname = 'b'\nprotocol = 'ftp'\n";
    for (line, message) in [
        ("alg = ['a', »'c']", "unknown alg \"c\"; expected one of a, b (did you mean \"a\"?)"),
        ("alg = ['a', »'b']", "a second profile of ftp; expected one profile a protocol"),
        (
            "mode = 'stateful'\nalg = »'a'",
            "no ALG reads the sessions of this mode; expected mode \"alg\", or no \"alg\"",
        ),
    ] {
        expect(&format!("{two}{}", rule(line)), message);
    }
}

#[test]
fn rules_about_messages() {
    let head = |protocol: &str| format!("[[alg]]\nname = 'a'\nprotocol = '{protocol}'\n[[alg.rule]]\n");
    let good = "action = 'deny'\ncommand = ['STOR', 'retr']\nfilename = ['~^a|b$', 'x']\n";
    assert_eq!(errors(&format!("{}{good}{INTERFACES}", head("ftp"))), Vec::<String>::new());
    let texts = "texts, or expressions behind \"~\", such as [\"passwd\", '~\\.exe$']";
    for (protocol, lines, message) in [
        ("ftp", "action = »'drop'", "unknown action \"drop\"; expected one of allow, deny, mask, reset, log"),
        ("sip", "from = »'client'", "unknown from \"client\"; expected one of initiator, responder"),
        (
            "ftp",
            "from = »'initiator'",
            "rules of ftp and tftp are asked about the initiator alone; expected a rule without \"from\"",
        ),
        ("tftp", "user = »'a'", "messages of tftp name no user; expected a rule without \"user\""),
        ("sip", "filename = »'a'", "messages of sip name no file; expected a rule without \"filename\""),
        (
            "ftp",
            "command = ['STOR', »'a b']",
            "bad command \"a b\"; expected 1 to 32 characters of a command or method, such as STOR",
        ),
        ("tftp", "command = ['rrq', »'PUT']", "unknown command \"PUT\"; expected one of RRQ, WRQ"),
        (
            "ftp",
            "filename = »7",
            &format!("\"filename\" is an integer; expected a string or a list of strings, {texts}"),
        ),
        (
            "ftp",
            "filename = ['a', »'~(b']",
            "bad filename \"~(b\"; expected a regular expression behind \"~\" (unclosed group)",
        ),
        (
            "ftp",
            "filename = »'~[ab]*a[ab]{24}x'",
            "bad filename \"~[ab]*a[ab]{24}x\"; expected a regular expression behind \"~\" (DFA exceeded size limit of 524288 during determinization)",
        ),
        ("ftp", "argument = »'!~'", "bad argument \"!~\"; expected 1 to 255 bytes behind \"!\" and \"~\""),
        (
            "ftp",
            "user = ['!a', »'b']",
            "\"user\" has texts with and without \"!\"; expected \"!\" before each of them, or before none",
        ),
        (
            "ftp",
            "rate = »'10/day'",
            "bad rate \"10/day\"; expected a number and a time such as 10/second, 100/minute or 1000/hour",
        ),
        (
            "ftp",
            "rate = »'0/hour'",
            "bad rate \"0/hour\"; expected a number and a time such as 10/second, 100/minute or 1000/hour",
        ),
        ("ftp", "longer_than = »-1", "bad longer_than \"-1\"; expected an integer from 0 to 4294967295"),
    ] {
        let action = if lines.contains("action") { "" } else { "\naction = 'deny'" };
        expect(&format!("{}{lines}{action}", head(protocol)), message);
    }
    expect(
        &format!("{}name = 'x'\naction = 'log'\n[[alg.rule]]\nname = »'x'\naction = 'log'", head("ftp")),
        "duplicate alg rule \"x\", first at 5:8; expected each alg rule once",
    );
    expect(
        "[[alg]]\nname = 'a'\nprotocol = 'ftp'\n»[[alg.rule]]\nname = 'x'",
        "[[alg.rule]] has no \"action\"; expected one of allow, deny, mask, reset, log",
    );
    let many: String = (0..256).map(|_| "[[alg.rule]]\naction = 'log'\n").collect();
    expect(
        &format!("[[alg]]\nname = 'a'\nprotocol = 'ftp'\n{many}»[[alg.rule]]\naction = 'deny'"),
        "one rule too many for a profile; expected at most 256",
    );
    // A set of 64 KiB for each rule; only the one that is too much is named.
    let texts: String = (0..256).map(|n| format!("'{n:0255}',")).collect();
    let rules = |n| format!("[[alg.rule]]\naction = 'log'\nargument = [{texts}]\n").repeat(n);
    let profile = |name: &str| format!("[[alg]]\nname = '{name}'\nprotocol = 'ftp'\n");
    let all = errors(&format!("{}{}{}{}{INTERFACES}", profile("a"), rules(200), profile("b"), rules(60)));
    let expected = "the patterns of the file take 16 MiB or more; expected fewer or simpler expressions";
    assert!(all.len() == 1 && all[0].contains(expected), "{} {:?}", all.len(), all.first());
}
