//! Who may do what. Whoever can connect may read: the socket's mode and group decide that. What changes the gateway is
//! for root, by the credentials that the kernel noted when the peer connected (`SO_PEERCRED`).

use tonic::transport::server::UdsConnectInfo;
use tonic::{Extensions, Status};

/// The user of root.
pub(super) const ROOT: u32 = 0;

/// Lets root pass. `what` is what others are told that they may not do: "clear sessions".
pub(super) fn root_only(peer: &Extensions, what: &str) -> Result<(), Box<Status>> {
    let user = peer.get::<UdsConnectInfo>().and_then(|info| info.peer_cred).map(|cred| cred.uid());
    decide(user, what).map_err(|sentence| Box::new(Status::permission_denied(sentence)))
}

fn decide(user: Option<u32>, what: &str) -> Result<(), String> {
    match user {
        Some(ROOT) => Ok(()),
        Some(user) => Err(format!("only root may {what}; user {user} may read")),
        None => Err(format!("only root may {what}; the kernel does not say who you are")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_for_root() {
        assert_eq!(decide(Some(0), "clear sessions"), Ok(()));
        let refused = decide(Some(1000), "clear sessions").unwrap_err();
        assert_eq!(refused, "only root may clear sessions; user 1000 may read");
        assert!(decide(None, "commit a policy").unwrap_err().starts_with("only root may commit a policy; "));
        assert!(root_only(&Extensions::default(), "clear sessions").is_err());
    }
}
