//! The ALG that a session is bound to: one plain value for every protocol, dispatched by `match`.
//!
//! The dataplane keeps one of these per inspected session in a slab: it is `Copy` and owns nothing.

use crate::contract::{
    Answer, Application, Blindness, Context, DatagramAlg, Denial, FlowContext, Gateway, Side, StreamAlg,
    Verdict,
};
use crate::ftp::Ftp;
use crate::profile::{Profile, WhenEncrypted};
use crate::rtsp::Rtsp;
use crate::sip::{SipDatagrams, SipStream};
use crate::tables::Tables;
use crate::tftp::Tftp;

/// State of the stream ALG of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Bound {
    /// FTP control connection.
    Ftp(Ftp),
    /// SIP over TCP.
    Sip(SipStream),
    /// RTSP control connection.
    Rtsp(Rtsp),
}

/// State of the datagram ALG of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum BoundDatagram {
    /// TFTP requests.
    Tftp(Tftp),
    /// SIP over UDP.
    Sip(SipDatagrams),
}

impl Bound {
    /// The ALG of an application over TCP, at the start of its streams. `None` where nothing needs inspection.
    #[must_use]
    pub fn for_application(application: Application) -> Option<Self> {
        match application {
            Application::Ftp => Some(Self::Ftp(Ftp::default())),
            Application::Sip => Some(Self::Sip(SipStream::default())),
            Application::Rtsp => Some(Self::Rtsp(Rtsp::default())),
            _ => None,
        }
    }

    /// The application whose messages this ALG reads.
    #[must_use]
    pub const fn application(&self) -> Application {
        match self {
            Self::Ftp(_) => Application::Ftp,
            Self::Sip(_) => Application::Sip,
            Self::Rtsp(_) => Application::Rtsp,
        }
    }

    /// Whether the ALG finds its place again behind a message that the engine had to let go ([`StreamAlg::give_up`]), and holds
    /// lines alone: what is not read goes on at once. Then it is held however long its end takes: who types a command gets
    /// its answer, and who waits in the midst of one gets nothing past the ALG.
    #[must_use]
    pub const fn reads_lines(&self) -> bool {
        matches!(self, Self::Ftp(_))
    }

    /// Why the ALG reads nothing for the rest of the flow, if it has given up.
    #[must_use]
    pub const fn blindness(&self) -> Option<Blindness> {
        match self {
            Self::Ftp(ftp) => ftp.blindness(),
            Self::Sip(sip) => sip.blindness(),
            Self::Rtsp(rtsp) => rtsp.blindness(),
        }
    }
}

/// A profile that wants to read all has what is encrypted refused, and what is tunnelled.
fn refuse_unreadable<G>(cx: &Context<'_, G>, verdict: Verdict) -> Verdict {
    match verdict {
        _ if cx.profile.encrypted != WhenEncrypted::Deny => verdict,
        Verdict::Blind(Blindness::Encrypted) => Verdict::Deny(Denial::Encrypted),
        Verdict::Blind(Blindness::Tunnelled) => Verdict::Deny(Denial::Unsupported),
        other => other,
    }
}

impl StreamAlg for Bound {
    fn inspect<G: Gateway>(
        &mut self,
        cx: &mut Context<'_, G>,
        from: Side,
        offset: u64,
        bytes: &[u8],
        answer: &mut Answer,
    ) -> Verdict {
        let verdict = match self {
            Self::Ftp(ftp) => ftp.inspect(cx, from, offset, bytes, answer),
            Self::Sip(sip) => sip.inspect(cx, from, offset, bytes, answer),
            Self::Rtsp(rtsp) => rtsp.inspect(cx, from, offset, bytes, answer),
        };
        refuse_unreadable(cx, verdict)
    }

    fn give_up(&mut self, profile: &Profile, from: Side, bytes: &[u8]) -> Result<bool, Denial> {
        match self {
            Self::Ftp(ftp) => ftp.give_up(profile, from, bytes),
            Self::Sip(sip) => sip.give_up(profile, from, bytes),
            Self::Rtsp(rtsp) => rtsp.give_up(profile, from, bytes),
        }
    }

    fn refuse(
        &mut self,
        flow: &FlowContext,
        tables: &mut Tables,
        from: Side,
        at: (u64, &[u8]),
        denial: Denial,
        answer: &mut Answer,
    ) -> bool {
        match self {
            Self::Ftp(ftp) => ftp.refuse(flow, tables, from, at, denial, answer),
            Self::Sip(sip) => sip.refuse(flow, tables, from, at, denial, answer),
            Self::Rtsp(rtsp) => rtsp.refuse(flow, tables, from, at, denial, answer),
        }
    }
}

impl BoundDatagram {
    /// The ALG of an application over UDP, at its start. `None` where nothing needs inspection.
    #[must_use]
    pub fn for_application(application: Application) -> Option<Self> {
        match application {
            Application::Tftp => Some(Self::Tftp(Tftp::default())),
            Application::Sip => Some(Self::Sip(SipDatagrams::default())),
            _ => None,
        }
    }

    /// The application whose messages this ALG reads.
    #[must_use]
    pub const fn application(&self) -> Application {
        match self {
            Self::Tftp(_) => Application::Tftp,
            Self::Sip(_) => Application::Sip,
        }
    }

    /// Why the ALG reads nothing for the rest of the flow, if it has given up.
    #[must_use]
    pub const fn blindness(&self) -> Option<Blindness> {
        match self {
            Self::Tftp(tftp) => tftp.blindness(),
            Self::Sip(sip) => sip.blindness(),
        }
    }
}

impl DatagramAlg for BoundDatagram {
    fn inspect<G: Gateway>(
        &mut self,
        cx: &mut Context<'_, G>,
        from: Side,
        payload: &[u8],
        answer: &mut Answer,
    ) -> Verdict {
        match self {
            Self::Tftp(tftp) => tftp.inspect(cx, from, payload, answer),
            Self::Sip(sip) => sip.inspect(cx, from, payload, answer),
        }
    }

    fn refuse(
        &mut self,
        flow: &FlowContext,
        tables: &mut Tables,
        payload: &[u8],
        denial: Denial,
        answer: &mut Answer,
    ) {
        match self {
            Self::Tftp(tftp) => tftp.refuse(flow, tables, payload, denial, answer),
            Self::Sip(sip) => sip.refuse(flow, tables, payload, denial, answer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_inspected() {
        use Application::{Ftp, Rtsp, Sip, Tftp};
        for application in Application::ALL {
            let stream = Bound::for_application(application);
            assert_eq!(stream.is_some(), matches!(application, Ftp | Sip | Rtsp), "{application:?}");
            assert!(stream.is_none_or(|b| b.application() == application && b.blindness().is_none()));
            let datagram = BoundDatagram::for_application(application);
            assert_eq!(datagram.is_some(), matches!(application, Tftp | Sip), "{application:?}");
            assert!(datagram.is_none_or(|b| b.application() == application && b.blindness().is_none()));
        }
    }
}
