//! The stream engine: between the segments of an inspected TCP flow and the ALG that reads its two byte streams.
//!
//! Whatever the segmentation, the receiver's stream is the sender's with the edits applied. What an edit or a verdict may
//! still change is held and acknowledged to its sender; what was decided is kept until its receiver has acknowledged it,
//! and repeated from that copy.
//!
//! - [`chunk`]: the memory, one slab a worker.
//! - [`edits`]: how numbers move across edits.
//! - `half`: one direction: what came, what is decided, what its receiver has.
//! - [`segment`]: what goes in and comes out.
//! - [`machine`]: what becomes of each segment.

pub mod chunk;
pub mod edits;
mod half;
pub mod machine;
pub mod segment;

pub use machine::{Event, Narrowed, Path, Stream, TooLong};
