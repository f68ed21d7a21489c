//! Network address translation: which outside port stands for an inside endpoint.
//!
//! - [`ports`]: the free and taken ports of each translated address, in blocks that belong to one worker each.
//! - [`hold_down`]: ports that rest between their last session and their next.
//! - [`room`]: the memory that bindings and resting ports of a worker lie in.
//! - [`registry`]: all translated addresses of the gateway, by number.
//! - [`bindings`]: one worker's mappings, of inside endpoints and of single sessions.
//!
//! Nothing here reads a clock or draws a random number: both are arguments. Nothing here touches a packet.
//!
//! Sources: RFC 4787 (UDP), RFC 5382 (TCP), RFC 5508 (ICMP), RFC 6056 (unguessable ports), RFC 6888 (hold-down),
//! RFC 7857 (updates).

pub mod bindings;
pub mod hold_down;
mod index;
pub mod ports;
pub mod registry;
pub mod room;

pub use bindings::{BindError, Binding, BindingHash, BindingId, BindingKey, Bindings, Published};
pub use hold_down::HoldDown;
pub use ports::{PortHint, PortSpace};
pub use registry::Registry;
pub use room::Room;
