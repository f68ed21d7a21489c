//! The gRPC schema of Postern's control socket and its generated types.
//!
//! The schema is `proto/postern/v1/postern.proto`; its comments are the documentation of the types in [`v1`]. This
//! crate holds nothing else, so that clients link neither the daemon nor DPDK.

/// Version 1 of the schema.
pub mod v1 {
    #![allow(clippy::pedantic, missing_docs)]
    tonic::include_proto!("postern.v1");

    /// The schema as an encoded `google.protobuf.FileDescriptorSet`, comments included, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/postern.bin"));
}

/// Where the daemon listens unless it is told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/postern/control.sock";

/// Longest configuration that `CheckPolicy` takes, in bytes.
pub const MAX_POLICY_BYTES: usize = 8 << 20;

/// Longest message on the socket, in bytes: a configuration and its frame.
pub const MAX_MESSAGE_BYTES: usize = MAX_POLICY_BYTES + (64 << 10);
