//! What the ALGs of one worker remember beyond the state of a flow: allocated once, bounded, shared by its flows.

/// The tables of one worker.
#[derive(Debug, Default)]
pub struct Tables {}

impl Tables {
    /// Room as the worker's share of the gateway's limits says. Nothing grows later.
    #[must_use]
    pub fn new() -> Self {
        Self {}
    }
}
