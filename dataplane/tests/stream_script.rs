//! The body of the `stream` fuzz target on scripts that a fixed seed makes, and on those that once found something.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod streams;

use streams::script;
use streams::stacks::Chance;

#[test]
fn no_script_parts_the_streams_from_the_oracle() {
    let mut chance = Chance(0x5eed);
    for round in 0..1_500 {
        let len = 20 + chance.below(600);
        let script: Vec<u8> = (0..len).map(|_| chance.draw() as u8).collect();
        if let Err(panic) = std::panic::catch_unwind(|| script::run(&script)) {
            eprintln!("round {round}: {script:?}");
            std::panic::resume_unwind(panic);
        }
    }
}
