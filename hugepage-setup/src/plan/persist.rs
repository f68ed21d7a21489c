//! The same again at every boot.

use super::Draft;
use super::boot::Boot;
use crate::action::Action;
use crate::facts::Facts;
use crate::facts::system::DROP_IN;
use crate::host::Host;
use crate::need::Need;
use crate::topic::{Finding, Level, Topic};
use std::path::Path;

/// The unit's name.
pub const UNIT: &str = "postern-host.service";

pub(super) fn plan(draft: &mut Draft, host: &Host, facts: &Facts, need: &Need, boot: &Boot, program: &Path) {
    if !need.persist {
        if !need.is_empty() {
            let text = "nothing of this outlives a reboot";
            draft.say(Finding::new(Level::Note, Topic::Persist, text).fix("add --persist"));
        }
        return;
    }
    let units = host.etc.join("systemd/system");
    let wants = units.join("multi-user.target.wants");
    draft.folders(&host.etc, &wants, "hold the unit");
    let path = units.join(UNIT);
    draft.step(Action::File { path: path.clone(), text: unit(need, program) }, "do the same at every boot");
    draft.step(Action::Link { path: wants.join(UNIT), target: path }, "have systemd start it");

    if boot.missing.is_empty() && boot.stale.is_empty() {
        return;
    }
    let grub = host.etc.join("default");
    if !facts.system.grub {
        let text = format!("no GRUB reads drop-ins in {}: boot parameters are not written", grub.display());
        let fix = match facts.system.grubby {
            true => boot.grubby(),
            false => format!("add to the kernel's command line: {}", boot.missing.join(" ")),
        };
        draft.say(Finding::new(Level::Warn, Topic::PersistBoot, text).fix(fix));
        return;
    }
    // The kernel reads those first, and of some parameters the first.
    let others: Vec<&str> = boot
        .stale
        .iter()
        .filter(|word| facts.system.grub_words.contains(*word))
        .map(String::as_str)
        .collect();
    if !others.is_empty() {
        let text =
            format!("{} says {}, against what is needed", grub.join("grub").display(), others.join(" "));
        let fix = "take it out there (or of the other files in grub.d), then run update-grub and reboot";
        draft.say(Finding::new(Level::Warn, Topic::PersistBoot, text).fix(fix));
    }
    if boot.missing.is_empty() {
        return;
    }
    draft.folders(&grub, &grub.join("grub.d"), "hold GRUB's drop-in");
    // What was written for an earlier need stays, unless it is said anew.
    let key = |word: &str| word.split('=').next().unwrap_or_default().to_owned();
    let is_new = |word: &&String| boot.missing.iter().any(|new| key(new) == key(word));
    let mut words: Vec<&str> =
        facts.system.drop_in.iter().filter(|word| !is_new(word)).map(String::as_str).collect();
    words.extend(boot.missing.iter().map(String::as_str));
    let text = format!(
        "# Written by hugepage-setup --persist; `hugepage-setup undo` removes it. Read by update-grub.\n\
         GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX {}\"\n",
        words.join(" ")
    );
    draft.step(Action::File { path: host.etc.join(DROP_IN), text }, "boot with what sysfs cannot set");
    let text = "boot parameters are written, and count from the next boot on";
    draft.say(Finding::new(Level::Note, Topic::PersistBoot, text).fix("run update-grub and reboot"));
}

/// Before any network is set up, so that nobody configures a NIC that is about to go.
fn unit(need: &Need, program: &Path) -> String {
    let mut words = vec![program.display().to_string(), "apply".to_owned()];
    words.extend(need.arguments());
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!(
        "# Written by hugepage-setup --persist; `hugepage-setup undo` removes it.\n\
         [Unit]\n\
         Description=Hugepages and NICs for Postern\n\
         DefaultDependencies=no\n\
         After=local-fs.target systemd-modules-load.service systemd-udev-settle.service\n\
         Before=network-pre.target postern.service shutdown.target\n\
         Wants=network-pre.target systemd-udev-settle.service\n\
         Conflicts=shutdown.target\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         ExecStart={}\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n",
        words.join(" ")
    )
}

/// A word of a unit's command line. A percent sign and a dollar sign mean something to systemd.
fn quoted(word: &str) -> String {
    let word = word.replace('\\', "\\\\").replace('%', "%%").replace('$', "$$");
    if word.contains([' ', '"', '\'', ';']) { format!("\"{}\"", word.replace('"', "\\\"")) } else { word }
}
