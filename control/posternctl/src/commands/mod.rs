//! One file a noun: what is asked, and how the answer looks. The JSON fields are those of the audit log where both
//! say the same.

pub(crate) mod alg;
pub(crate) mod counter;
pub(crate) mod event;
pub(crate) mod expectation;
pub(crate) mod interface;
pub(crate) mod policy;
pub(crate) mod session;
pub(crate) mod status;

use control_api::v1;

/// `addr:port`, `[v6]:port`; empty if the daemon did not say.
fn endpoint(of: Option<&v1::Endpoint>) -> String {
    match of {
        None => String::new(),
        Some(e) if e.address.contains(':') => format!("[{}]:{}", e.address, e.port),
        Some(e) => format!("{}:{}", e.address, e.port),
    }
}
