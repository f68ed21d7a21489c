//! What the tests of the stream engine share: a made-up protocol with an oracle, the engine with it as one gate, and, for
//! those who ask, whole TCP stacks around that gate.
#![allow(dead_code, reason = "each test uses its part")]

pub mod gate;
pub mod oracle;
pub mod script;
pub mod stacks;
pub mod wire;
