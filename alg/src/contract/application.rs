//! The names of what Postern knows.

/// Applications that Postern names in policy, sessions and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
pub enum Application {
    /// Not known.
    #[default]
    Unknown = 0,
    /// FTP control connection.
    Ftp = 1,
    /// FTP data connection.
    FtpData = 2,
    /// HTTP.
    Http = 3,
    /// HTTP over TLS.
    Https = 4,
    /// Domain names.
    Dns = 5,
    /// Secure shell.
    Ssh = 6,
    /// ICMP echo.
    Ping = 7,
    /// TFTP requests.
    Tftp = 8,
    /// The blocks of one TFTP transfer.
    TftpData = 9,
    /// SIP signalling.
    Sip = 10,
    /// Media over RTP.
    Rtp = 11,
    /// Reports over RTCP.
    Rtcp = 12,
    /// RTSP control connection.
    Rtsp = 13,
    /// Fax over UDPTL (T.38).
    T38 = 14,
}

impl Application {
    /// Every application, in the order of its number.
    pub const ALL: [Self; 15] = [
        Self::Unknown,
        Self::Ftp,
        Self::FtpData,
        Self::Http,
        Self::Https,
        Self::Dns,
        Self::Ssh,
        Self::Ping,
        Self::Tftp,
        Self::TftpData,
        Self::Sip,
        Self::Rtp,
        Self::Rtcp,
        Self::Rtsp,
        Self::T38,
    ];

    /// The name in configuration and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ftp => "ftp",
            Self::FtpData => "ftp-data",
            Self::Http => "http",
            Self::Https => "https",
            Self::Dns => "dns",
            Self::Ssh => "ssh",
            Self::Ping => "ping",
            Self::Tftp => "tftp",
            Self::TftpData => "tftp-data",
            Self::Sip => "sip",
            Self::Rtp => "rtp",
            Self::Rtcp => "rtcp",
            Self::Rtsp => "rtsp",
            Self::T38 => "t38",
        }
    }

    /// The application of a number, `Unknown` if there is none.
    #[must_use]
    pub fn from_number(n: u8) -> Self {
        Self::ALL.get(usize::from(n)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique() {
        for (n, application) in Application::ALL.into_iter().enumerate() {
            assert_eq!(application as usize, n);
            assert_eq!(Application::from_number(n as u8), application);
            let same = Application::ALL.into_iter().filter(|a| a.name() == application.name());
            assert_eq!(same.count(), 1, "{application:?}");
        }
        assert_eq!(Application::from_number(200), Application::Unknown);
    }
}
