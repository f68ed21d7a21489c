//! Searches for what a gateway carries: the highest rate without loss (NDR) or with little (PDR), new sessions a second,
//! sessions at once, the longest burst, and how long packets take meanwhile.
//!
//! - [`search`] chooses the next rate from what trials said. Pure.
//! - [`trial`] is what a generator is asked for, and what it answers. [`generator`] is the seam.
//! - [`own`] is our generator, on two ports. [`external`] drives another one through a program that speaks JSON lines.
//! - [`suite`] makes procedures of trials, [`report`] tables and plots of what they found. [`campaign`] runs one after the other.
//!
//! What a trial measures is the device between the generator's two ports. A generator that is too slow for what it is asked
//! ends the search with "at least", never with a figure that looks like the device's.

pub mod campaign;
pub mod external;
pub mod generator;
pub mod own;
pub mod report;
pub mod search;
pub mod suite;
pub mod trial;
