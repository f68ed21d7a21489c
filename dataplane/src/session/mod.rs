//! Sessions: one fixed record each, in an arena that never moves.
//!
//! - [`record`]: the layout, asserted at compile time.
//! - [`arena`]: allocation state, free indices, and what control reads.
//!
//! Only the owning worker writes a record. Others read it through atomics; who wants a consistent copy validates the
//! version, which is odd while the record is in use and changes at every birth and death.

pub mod arena;
pub mod record;

pub use arena::{Arena, Magazine, Marks};
pub use record::{AlgSlot, Init, MAX_ALG_SLOTS, Session};
