//! What only the kernel's command line can say.

use super::{Draft, pages};
use crate::facts::Facts;
use crate::facts::cpu::parameter;
use crate::host::cpu_text;
use crate::need::{KIB_1G, Need};
use crate::topic::{Finding, Level, Topic};

/// Parameters that are missing, in the order in which they belong.
pub(super) fn plan(draft: &mut Draft, facts: &Facts, need: &Need) -> Vec<String> {
    let line = facts.system.command_line.as_str();
    let has = |name: &str| parameter(line, name).is_some();
    let mut missing = Vec::new();
    if !need.bind.is_empty() {
        if !facts.vfio.iommu && !need.noiommu && !has("intel_iommu") && !has("amd_iommu") {
            // AMD's is on where the firmware allows it; the parameter harms nobody.
            missing.push("intel_iommu=on".to_owned());
        }
        if !need.noiommu && !has("iommu") {
            missing.push("iommu=pt".to_owned());
            if facts.vfio.iommu {
                let text = "the kernel's own devices are translated by the IOMMU too";
                draft.say(Finding::new(Level::Note, Topic::IommuPassthrough, text).fix("boot with iommu=pt"));
            }
        }
    }
    if !need.cores.is_empty() {
        let mut cores = need.cores.clone();
        cores.sort_unstable();
        cores.dedup();
        let list = cpu_text(&cores);
        let names = ["isolcpus", "nohz_full", "rcu_nocbs"];
        missing.extend(names.into_iter().filter(|name| !has(name)).map(|name| format!("{name}={list}")));
    }
    let gigantic = pages::wanted(facts, need);
    let gigantic: u64 =
        gigantic.iter().filter(|((size, _), _)| *size >= KIB_1G).map(|(_, count)| *count).sum();
    if gigantic > 0 && !has("hugepages") {
        missing.push("hugepagesz=1G".to_owned());
        missing.push(format!("hugepages={gigantic}"));
    }
    if !missing.is_empty() {
        let text = format!("the kernel's command line lacks {}", missing.join(" "));
        let fix = format!(
            "in /etc/default/grub: GRUB_CMDLINE_LINUX=\"{}\", then update-grub and reboot; --persist writes it \
             beside that file",
            grub(line, &missing)
        );
        draft.say(Finding::new(Level::Note, Topic::Boot, text).fix(fix));
    }
    missing
}

/// The line for GRUB: what the kernel was started with, without what GRUB itself adds, and the rest.
fn grub(line: &str, missing: &[String]) -> String {
    let own = |word: &&str| {
        !["BOOT_IMAGE=", "root=", "initrd="].iter().any(|own| word.starts_with(own))
            && !matches!(*word, "ro" | "rw")
    };
    let kept = line.split_whitespace().take_while(|word| *word != "--").filter(own);
    let words: Vec<&str> = kept.chain(missing.iter().map(String::as_str)).collect();
    // A quotation mark would end the line for the shell that reads it.
    words.join(" ").replace('"', "\\\"")
}
