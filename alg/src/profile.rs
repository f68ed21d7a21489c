//! What is allowed: the settings of one ALG profile, compiled, never changed once in use.

use crate::ftp::FtpOptions;
use crate::rtsp::RtspOptions;
use crate::rules::CommandPolicy;
use crate::sip::SipOptions;
use crate::tftp::TftpOptions;
use arrayvec::ArrayVec;

/// Lowest port that a child may be sent to unless the profile says otherwise (RFC 2577 §3).
pub const FIRST_UNPRIVILEGED: u16 = 1024;

/// Most ranges of forbidden ports.
pub const MAX_FORBIDDEN: usize = 16;

/// What becomes of a control session that is encrypted, so that its ALG cannot read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WhenEncrypted {
    /// It goes on unread.
    #[default]
    Allow,
    /// It is refused: by the protocol's own reply where that can be (FTP), else the flow is.
    Deny,
    /// It goes on unread, and the initiator may open connections to these ports of the responder as long as it lives: first
    /// and last. FTP alone.
    Passive(u16, u16),
}

/// One profile, for every protocol. The modes are the dataplane's matter: what a mode does not do is left out of an ALG's
/// answer. An ALG need only know whether all of it is ([`Self::watch`]).
#[derive(Clone, Debug)]
pub struct Profile {
    /// What the protocol's standard demands is demanded, instead of what implementations get away with.
    pub strict: bool,
    /// Nothing of the answer is done. What an ALG would refuse goes on, and its state follows what goes on.
    pub watch: bool,
    /// A message may name an address that is not its sender's own. Nothing is rewritten or opened for such an address.
    pub third_party: bool,
    /// Lowest port that a pinhole may lead to.
    pub lowest_port: u16,
    /// Ports that no pinhole may lead to, as first and last (remote desktops, proxies).
    pub forbidden_ports: ArrayVec<(u16, u16), MAX_FORBIDDEN>,
    /// What becomes of encrypted control sessions.
    pub encrypted: WhenEncrypted,
    /// Rules about messages.
    pub rules: CommandPolicy,
    /// FTP alone.
    pub ftp: FtpOptions,
    /// TFTP alone.
    pub tftp: TftpOptions,
    /// SIP alone.
    pub sip: SipOptions,
    /// RTSP alone.
    pub rtsp: RtspOptions,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            strict: false,
            watch: false,
            third_party: false,
            lowest_port: FIRST_UNPRIVILEGED,
            forbidden_ports: ArrayVec::new(),
            encrypted: WhenEncrypted::default(),
            rules: CommandPolicy::default(),
            ftp: FtpOptions::default(),
            tftp: TftpOptions::default(),
            sip: SipOptions::default(),
            rtsp: RtspOptions::default(),
        }
    }
}

impl Profile {
    /// Whether a pinhole may lead to this port.
    #[must_use]
    pub fn allows_port(&self, port: u16) -> bool {
        port >= self.lowest_port
            && !self.forbidden_ports.iter().any(|&(first, last)| (first..=last).contains(&port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        let mut profile = Profile::default();
        assert!(!profile.allows_port(1023) && profile.allows_port(1024) && profile.allows_port(65535));
        profile.forbidden_ports.push((3389, 3390));
        assert!(profile.allows_port(3388) && !profile.allows_port(3389) && !profile.allows_port(3390));
        assert!(profile.allows_port(3391));
    }
}
