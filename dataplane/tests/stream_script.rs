//! The body of the `stream` fuzz target on scripts that a fixed seed makes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod streams;

use streams::script;
use streams::stacks::Chance;

fn any(chance: &mut Chance, len: u64) -> Vec<u8> {
    (0..len).map(|_| chance.draw() as u8).collect()
}

/// Short messages, said whole, and many steps.
fn brisk(chance: &mut Chance, len: u64) -> Vec<u8> {
    let mut script = vec![0];
    while (script.len() as u64) < len {
        let step = chance.draw() as u8;
        script.push(step);
        match step >> 3 {
            act if act < 24 && act % 6 < 2 => {
                let body = chance.below(10);
                script.extend([body as u8 + 2, chance.draw() as u8, body as u8]);
                script.extend(any(chance, body));
            }
            act if act < 24 && act % 6 == 5 => {}
            act if act < 24 && act % 6 == 3 => {
                script.extend([40 + chance.below(40) as u8, chance.below(40) as u8])
            }
            _ => script.push(chance.below(40) as u8),
        }
    }
    script
}

#[test]
fn no_script_parts_the_streams_from_the_oracle() {
    let mut chance = Chance(0x5eed);
    for round in 0..1_600_u32 {
        let len = 20 + chance.below(600);
        let mut script = if round % 160 < 80 { any(&mut chance, len) } else { brisk(&mut chance, len) };
        // Each segment size with each combination of what a script may make use of.
        script[0] = (round % 80) as u8;
        if let Err(panic) = std::panic::catch_unwind(|| script::run(&script)) {
            eprintln!("round {round}: {script:?}");
            std::panic::resume_unwind(panic);
        }
    }
}
