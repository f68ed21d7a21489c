//! `posternd` in the guest, and `posternctl` beside it.

use crate::host_setup::STATE;
use crate::machine::{Machine, Place};
use serde_json::Value;

/// A daemon that runs in the guest.
pub struct Gateway {
    ctl: String,
}

impl Gateway {
    /// Starts it and waits until it answers.
    #[track_caller]
    pub fn start(machine: &mut Machine, place: &Place, config: &str) -> Self {
        let (posternd, ctl) = (place.program("posternd"), place.program("posternctl"));
        let ctl = format!("{ctl} --socket {STATE}/control.sock --json");
        // In a session of its own: it outlives the script that starts it.
        machine.ok(
            90,
            &format!(
                "rm -rf {STATE}; mkdir {STATE}\n\
                 setsid sh -c 'echo $$ >{STATE}/pid; exec {posternd} --config {config}' >{STATE}/log 2>&1 </dev/null &\n\
                 for _ in $(seq 300); do\n\
                 {ctl} status >/dev/null 2>&1 && exit 0\n\
                 [ ! -s {STATE}/pid ] || [ -e /proc/$(cat {STATE}/pid) ] || break\n\
                 sleep 0.2\ndone\n\
                 cat {STATE}/log; exit 1"
            ),
        );
        Self { ctl }
    }

    /// What `posternctl --json` answers.
    #[track_caller]
    pub fn control(&self, machine: &mut Machine, words: &str) -> Value {
        let said = machine.ok(30, &format!("{} {words}", self.ctl));
        serde_json::from_str(&said).unwrap_or_else(|e| panic!("{words}: {e}: {said}"))
    }

    /// The counters, a value for each worker.
    #[track_caller]
    pub fn counters(&self, machine: &mut Machine) -> Vec<Value> {
        self.control(machine, "counter show").as_array().unwrap().clone()
    }

    /// What it has logged.
    #[track_caller]
    pub fn log(&self, machine: &mut Machine) -> String {
        machine.ok(10, &format!("cat {STATE}/log"))
    }

    /// The records of its audit log, once it has one of this kind.
    #[track_caller]
    pub fn audited(&self, machine: &mut Machine, kind: &str) -> Vec<Value> {
        let log = format!("{STATE}/audit.jsonl");
        let text = machine
            .ok(10, &format!("until grep -q '\"kind\":\"{kind}\"' {log}; do sleep 0.1; done; cat {log}"));
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }

    /// Ends it as an operator would.
    #[track_caller]
    pub fn stop(self, machine: &mut Machine) {
        machine.ok(
            40,
            &format!(
                "kill -TERM $(cat {STATE}/pid)\n\
                 for _ in $(seq 100); do [ -e /proc/$(cat {STATE}/pid) ] || exit 0; sleep 0.2; done\n\
                 cat {STATE}/log; echo it does not end; exit 1"
            ),
        );
    }
}

/// A counter of each worker, whether it is one of drops or not. Zero where it is not listed.
pub fn of_workers(counters: &[Value], name: &str) -> Vec<u64> {
    let of = |worker: &Value| ["counters", "drops"].iter().find_map(|kind| worker[kind][name].as_u64());
    counters.iter().map(|worker| of(worker).unwrap_or(0)).collect()
}
