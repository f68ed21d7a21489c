//! The stream engine: between the segments of an inspected TCP flow and the ALG that reads its two byte streams.
//!
//! - [`shift`]: the edits of one direction, and how sequence numbers move across them.
//! - [`engine`]: what is fed to the ALG, and what becomes of each segment.
//!
//! Today's engine feeds in order and holds nothing: what comes ahead of its turn is dropped for the sender to repeat,
//! and a message that must be edited but ends in the next segment refuses the flow. What it does translate is exact:
//! any number of edits in both directions, retransmissions with other boundaries included.

pub mod engine;
pub mod shift;

pub use engine::{Engine, Outcome, Segment};
pub use shift::Shift;
