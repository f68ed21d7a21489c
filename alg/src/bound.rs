//! The ALG that a session is bound to: one plain value for every protocol, dispatched by `match`.
//!
//! The dataplane keeps one of these per inspected session in a slab: it is `Copy` and owns nothing.

use crate::contract::{
    Answer, Application, Blindness, Context, DatagramAlg, Gateway, Side, StreamAlg, Verdict,
};
use crate::ftp::Ftp;
use crate::tftp::Tftp;

/// State of the stream ALG of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Bound {
    /// FTP control connection.
    Ftp(Ftp),
}

impl Bound {
    /// The ALG of an application, at the start of its streams. `None` where nothing needs inspection.
    #[must_use]
    pub fn for_application(application: Application) -> Option<Self> {
        match application {
            Application::Ftp => Some(Self::Ftp(Ftp::default())),
            Application::Unknown
            | Application::FtpData
            | Application::Http
            | Application::Https
            | Application::Dns
            | Application::Ssh
            | Application::Ping
            | Application::Tftp
            | Application::TftpData
            | Application::Sip
            | Application::Rtp
            | Application::Rtcp
            | Application::Rtsp
            | Application::T38 => None,
        }
    }

    /// The application whose messages this ALG reads.
    #[must_use]
    pub const fn application(&self) -> Application {
        match self {
            Self::Ftp(_) => Application::Ftp,
        }
    }

    /// Why the ALG reads nothing for the rest of the flow, if it has given up.
    #[must_use]
    pub const fn blindness(&self) -> Option<Blindness> {
        match self {
            Self::Ftp(ftp) => ftp.blindness(),
        }
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
        match self {
            Self::Ftp(ftp) => ftp.inspect(cx, from, offset, bytes, answer),
        }
    }

    fn give_up(&mut self, from: Side, bytes: &[u8]) -> bool {
        match self {
            Self::Ftp(ftp) => ftp.give_up(from, bytes),
        }
    }
}

/// State of the datagram ALG of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum BoundDatagram {
    /// TFTP requests.
    Tftp(Tftp),
}

impl BoundDatagram {
    /// The ALG of an application over UDP, at its start. `None` where nothing needs inspection.
    #[must_use]
    pub fn for_application(application: Application) -> Option<Self> {
        match application {
            Application::Tftp => Some(Self::Tftp(Tftp::default())),
            _ => None,
        }
    }

    /// The application whose messages this ALG reads.
    #[must_use]
    pub const fn application(&self) -> Application {
        match self {
            Self::Tftp(_) => Application::Tftp,
        }
    }

    /// Why the ALG reads nothing for the rest of the flow, if it has given up.
    #[must_use]
    pub const fn blindness(&self) -> Option<Blindness> {
        match self {
            Self::Tftp(tftp) => tftp.blindness(),
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ftp_is_inspected() {
        for application in Application::ALL {
            let bound = Bound::for_application(application);
            assert_eq!(bound.is_some(), application == Application::Ftp, "{application:?}");
            assert!(bound.is_none_or(|b| b.application() == application && b.blindness().is_none()));
        }
    }
}
