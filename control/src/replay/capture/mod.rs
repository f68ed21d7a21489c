//! Capture files: pcap (micro- and nanoseconds, either byte order) and pcapng, read packet by packet.
//!
//! - [`file`]: records and blocks, and what is wrong with a file that has none.
//! - [`link`]: what the link layer says, and the IP packet behind it.
//!
//! A file is read as a stream: of any length, in the memory of its largest record.

mod file;
mod link;

#[cfg(test)]
mod tests;

pub use file::{Capture, CaptureError, Packet};
pub use link::{Layer, LinkType, NoLink, Seen, read};
