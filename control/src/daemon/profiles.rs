//! ALG profiles as operators see them: their settings by the keys of the configuration.

use alg::profile::WhenEncrypted;
use alg::rules::Action;
use alg::sip::Rewrite;
use dataplane::expect::ExpectationLimits;
use dataplane::policy::{AlgProfile, AlgProtocol, OnChange};
use dataplane::stream::segment::Overflow;

/// The settings of a profile but those that listings have columns for, as the configuration writes them.
pub(super) fn options(profile: &AlgProfile) -> Vec<(&'static str, String)> {
    let alg::Profile {
        strict,
        third_party,
        lowest_port,
        ref forbidden_ports,
        encrypted,
        ftp,
        tftp,
        sip,
        rtsp,
        ..
    } = *profile.settings;
    let range = |(first, last): &(u16, u16)| match first == last {
        true => first.to_string(),
        false => format!("\"{first}-{last}\""),
    };
    let forbidden: Vec<_> = forbidden_ports.iter().map(range).collect();
    let on_change = match profile.on_change {
        OnChange::Keep => "\"keep\"",
        OnChange::Drop => "\"drop\"",
    };
    let mut options = vec![("on_change", on_change.to_owned())];
    options.extend(profile.overflow.map(|overflow| match overflow {
        Overflow::Reset => ("overflow", "\"reset\"".to_owned()),
        Overflow::Pass => ("overflow", "\"pass\"".to_owned()),
    }));
    let ExpectationLimits { per_flow, per_host, per_alg, per_second } = profile.limits;
    options.extend(
        [
            ("limits.per_session", per_flow),
            ("limits.per_host", per_host),
            ("limits.total", per_alg),
            ("limits.per_second", per_second),
        ]
        .into_iter()
        .filter(|(_, limit)| *limit != u32::MAX)
        .map(|(key, limit)| (key, limit.to_string())),
    );
    options.extend([
        ("detect", profile.detect.to_string()),
        ("strict", strict.to_string()),
        ("third_party", third_party.to_string()),
        ("lowest_port", lowest_port.to_string()),
        ("forbidden_ports", format!("[{}]", forbidden.join(", "))),
    ]);
    match encrypted {
        WhenEncrypted::Allow => options.push(("blind", "\"allow\"".to_owned())),
        WhenEncrypted::Deny => options.push(("blind", "\"deny\"".to_owned())),
        WhenEncrypted::Passive(first, last) => options
            .extend([("blind", "\"passive\"".to_owned()), ("passive_ports", format!("\"{first}-{last}\""))]),
    }
    let rules = profile.rules().iter();
    options.extend(rules.map(|rule| {
        let action = rule.action.map_or("log", Action::name);
        ("rule", format!("{:?} {action}", rule.name))
    }));
    let rewrite = match sip.rewrite {
        Rewrite::Minimal => "\"minimal\"",
        Rewrite::Full => "\"full\"",
    };
    match profile.protocol {
        AlgProtocol::Ftp => options.extend([
            ("bare_lf", ftp.bare_lf.to_string()),
            ("mask_greeting", ftp.mask_greeting.to_string()),
            ("mask_syst", ftp.mask_syst.to_string()),
            ("correct_passive_address", ftp.correct_passive_address.to_string()),
            ("quit_closes_data", ftp.quit_closes_data.to_string()),
            ("longest_line", ftp.longest_line.to_string()),
        ]),
        AlgProtocol::Tftp => {
            options.extend([("read", tftp.read.to_string()), ("write", tftp.write.to_string())]);
        }
        AlgProtocol::Sip => options.extend([
            ("rewrite", rewrite.to_owned()),
            ("unknown_methods", sip.unknown_methods.to_string()),
            ("pass_malformed", sip.pass_malformed.to_string()),
            ("bye_closes_media", sip.bye_closes_media.to_string()),
            ("mask_software", sip.mask_software.to_string()),
            (
                "max_dialogs",
                if sip.max_dialogs == u32::MAX { "none".to_owned() } else { sip.max_dialogs.to_string() },
            ),
            ("max_call", (sip.max_call_s / 60).to_string()),
            ("media_idle", sip.media_idle_s.to_string()),
            ("transaction", sip.transaction_s.to_string()),
            ("ringing", sip.ringing_s.to_string()),
            ("early_media", sip.early_media_s.to_string()),
            ("disconnect", sip.disconnect_s.to_string()),
            (
                "call_idle",
                if sip.call_idle_s == u32::MAX {
                    "none".to_owned()
                } else {
                    (sip.call_idle_s / 60).to_string()
                },
            ),
            ("longest_registration", sip.longest_registration_s.to_string()),
            ("longest_message", sip.longest_message.to_string()),
        ]),
        AlgProtocol::Rtsp => options.extend([
            ("other_source", rtsp.other_source.to_string()),
            ("teardown_closes_media", rtsp.teardown_closes_media.to_string()),
        ]),
    }
    options
}
