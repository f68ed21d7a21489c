//! The body of the `stream` fuzz target on scripts that a fixed seed makes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod streams;

use streams::script;
use streams::stacks::Chance;

#[test]
fn no_script_parts_the_streams_from_the_oracle() {
    let mut chance = Chance(0x5eed);
    for round in 0..1_600_u32 {
        let len = 20 + chance.below(600);
        let mut script: Vec<u8> = (0..len).map(|_| chance.draw() as u8).collect();
        // Each segment size with each combination of what a script may make use of.
        script[0] = (round % 80) as u8;
        if let Err(panic) = std::panic::catch_unwind(|| script::run(&script)) {
            eprintln!("round {round}: {script:?}");
            std::panic::resume_unwind(panic);
        }
    }
}
