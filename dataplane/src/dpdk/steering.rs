//! What a running device is told about where packets go, and whether it has heard.
//!
//! Nothing here fails: correctness never depends on it. What a device does not take up is said in words.

use super::plan::{Choice, Rss};
use super::{os_error, port::symmetric_key};
use dpdk_sys as sys;
use std::mem;

/// Entries of a group of the redirection table.
const GROUP: usize = 64;
/// Why packets come in at other workers than their flows'.
const HANDED_OVER: &str = "what comes in at another worker than its flow's is handed over";

/// What a driver answers to what it has no function for.
const UNSUPPORTED: i32 = -libc::ENOTSUP;

/// Writes the redirection table, and reads back the hash key and the table.
pub(super) fn settle(id: u16, rss: Rss, reta: &[u16]) -> Vec<Choice> {
    let mut choices = vec![key(id, rss)];
    if !reta.is_empty() {
        choices.push(table(id, reta));
    }
    choices
}

/// Reads the key back; a driver that forgot it when it was configured is told once more.
fn key(id: u16, rss: Rss) -> Choice {
    let (code, alike, missing) = read_key(id, rss);
    if code != 0 || alike {
        return judge_key(code, alike, missing);
    }
    let mut key = symmetric_key();
    let mut conf = rss_conf(&mut key, rss.key);
    conf.rss_hf = rss.flows;
    // SAFETY: the port runs; DPDK reads as many bytes as the key has.
    if unsafe { sys::rte_eth_dev_rss_hash_update(id, &mut conf) } != 0 {
        return judge_key(0, false, missing);
    }
    let (code, alike, missing) = read_key(id, rss);
    judge_key(code, alike, missing)
}

/// DPDK's answer, whether the key is ours, and flow types that were asked for and are not in force.
fn read_key(id: u16, rss: Rss) -> (i32, bool, u64) {
    let mut key = [0_u8; u8::MAX as usize];
    let mut conf = rss_conf(&mut key, rss.key);
    // SAFETY: the port runs; DPDK writes as many bytes as we say there is room for.
    let code = unsafe { sys::rte_eth_dev_rss_hash_conf_get(id, &mut conf) };
    let flows = conf.rss_hf;
    let length = usize::from(rss.key);
    (code, key.get(..length) == symmetric_key().get(..length), rss.flows & !flows)
}

/// Names a key to DPDK.
fn rss_conf(key: &mut [u8; u8::MAX as usize], length: u8) -> sys::rte_eth_rss_conf {
    // SAFETY: plain numbers and a pointer, for which zero is a value.
    let mut conf: sys::rte_eth_rss_conf = unsafe { mem::zeroed() };
    conf.rss_key = key.as_mut_ptr();
    conf.rss_key_len = length;
    conf
}

/// What reading the key back says. `missing` are flow types that were asked for.
fn judge_key(code: i32, alike: bool, missing: u64) -> Choice {
    let choice = |chosen: &str| Choice::new("hash in force", chosen);
    if code != 0 {
        return choice("unknown").but(format!("it cannot be read back: {}", os_error(code)));
    }
    if !alike {
        return choice("the device's own key")
            .but(format!("it has not taken ours, so the two directions of a flow part: {HANDED_OVER}"));
    }
    let mut lacks = Vec::new();
    for (name, bit) in [("TCP", sys::POSTERN_RSS_IPV4_TCP), ("UDP", sys::POSTERN_RSS_IPV4_UDP)] {
        if missing & bit != 0 {
            lacks.push(format!("ports of {name} are not in it: {HANDED_OVER}"));
        }
    }
    choice("symmetric").but(lacks.join("; "))
}

/// Writes the table and reads it back.
fn table(id: u16, reta: &[u16]) -> Choice {
    let Ok(size) = u16::try_from(reta.len()) else { return judge_table(-libc::EINVAL, 0, 0) };
    let mut groups = groups(reta);
    // SAFETY: the port runs, and there is a group for each 64 entries.
    let code = unsafe { sys::rte_eth_dev_rss_reta_update(id, groups.as_mut_ptr(), size) };
    if code != 0 {
        return judge_table(code, 0, reta.len());
    }
    let mut read = self::groups(&vec![0; reta.len()]);
    // SAFETY: as above.
    let code = unsafe { sys::rte_eth_dev_rss_reta_query(id, read.as_mut_ptr(), size) };
    if code != 0 {
        return judge_table(code, 0, reta.len());
    }
    let found = read.iter().flat_map(|group| group.reta.iter());
    let wrong = reta.iter().zip(found).filter(|(wanted, found)| wanted != found).count();
    judge_table(0, wrong, reta.len())
}

/// What writing and reading back says.
fn judge_table(code: i32, wrong: usize, entries: usize) -> Choice {
    if code != 0 {
        return Choice::new("table in force", "the driver's own")
            .but(format!("it takes or shows none: {}: {HANDED_OVER}", os_error(code)));
    }
    let choice = Choice::new("table in force", format!("{entries} entries"));
    if wrong == 0 { choice } else { choice.but(format!("{wrong} of them are not ours: {HANDED_OVER}")) }
}

/// A table as DPDK takes it.
fn groups(reta: &[u16]) -> Vec<sys::rte_eth_rss_reta_entry64> {
    let group = |entries: &[u16]| {
        // SAFETY: plain numbers.
        let mut group: sys::rte_eth_rss_reta_entry64 = unsafe { mem::zeroed() };
        group.mask = u64::MAX >> (GROUP - entries.len());
        for (place, entry) in group.reta.iter_mut().zip(entries) {
            *place = *entry;
        }
        group
    };
    reta.chunks(GROUP).map(group).collect()
}

/// Asks for no flow control: a worker that lags must lose its own packets, not stop the link for all.
pub(super) fn no_pause(id: u16) -> Choice {
    let mut set = 0;
    // SAFETY: the port runs; the shim writes a number.
    let said = unsafe { sys::postern_eth_no_pause(id, &mut set) };
    judge_no_pause(said, set)
}

/// What the device said before, and what came of asking for none. Only a driver that does not tell is left to itself: nobody
/// knows whether it pauses.
fn judge_no_pause(said: i32, set: i32) -> Choice {
    let choice = |chosen: &str| Choice::new("flow control", chosen);
    match (said, set) {
        (UNSUPPORTED, _) => choice("the device's own: its driver does not tell of it"),
        (code, _) if code < 0 => choice("unknown").but(format!("it cannot be read: {}", os_error(code))),
        // One that tells and cannot set is fine if it is off.
        (_, 0) | (0, UNSUPPORTED) => choice("off"),
        (0, code) => choice("off").but(format!(
            "it could not be asked to stay so, and may be on once the link is up: {}",
            os_error(code)
        )),
        (said, code) => {
            let (chosen, lacks) = pauses(said);
            let why = match code {
                UNSUPPORTED => "its driver does not switch it off".to_owned(),
                code => format!("it cannot be switched off: {}", os_error(code)),
            };
            choice(chosen).but(format!("{why}: {lacks}"))
        }
    }
}

/// Flow control as it is. To be asked once the link is up: what is in force both ends agree on when it comes up. None where the
/// driver does not tell.
pub(super) fn pause(id: u16) -> Option<Choice> {
    // SAFETY: the port runs.
    judge_pause(unsafe { sys::postern_eth_pause(id) })
}

/// What the device says.
fn judge_pause(said: i32) -> Option<Choice> {
    let choice = |chosen: &str| Choice::new("flow control in force", chosen);
    match said {
        UNSUPPORTED => None,
        code if code < 0 => Some(choice("unknown").but(format!("it cannot be read: {}", os_error(code)))),
        said => {
            let (chosen, lacks) = pauses(said);
            Some(choice(chosen).but(lacks))
        }
    }
}

/// In words: 1 for frames that it sends, 2 for such as it obeys.
fn pauses(said: i32) -> (&'static str, &'static str) {
    match said {
        0 => ("off", ""),
        1 => ("on: pause frames are sent", "a worker that lags stops the link for all"),
        2 => ("on: pause frames are obeyed", "the other end may stop all that leaves"),
        _ => (
            "on: pause frames are sent and obeyed",
            "a worker that lags stops the link for all, and the other end may stop all that leaves",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_hold_the_table_and_no_more() {
        let table: Vec<u16> = (0..130).collect();
        let groups = groups(&table);
        assert_eq!(groups.iter().map(|g| g.mask.count_ones()).collect::<Vec<_>>(), [64, 64, 2]);
        let back: Vec<u16> = groups.iter().flat_map(|g| g.reta).take(130).collect();
        assert_eq!(back, table);
    }

    #[test]
    fn what_a_device_does_not_take_up_is_said() {
        assert_eq!(judge_key(0, true, 0).lacks, "");
        assert!(judge_key(0, false, 0).lacks.contains("handed over"));
        assert!(judge_key(-libc::ENOTSUP, true, 0).lacks.contains("cannot be read back"));
        assert!(judge_key(0, true, sys::POSTERN_RSS_IPV4_UDP).lacks.contains("UDP"));
        assert_eq!(judge_table(0, 0, 128).lacks, "");
        assert!(judge_table(0, 3, 128).lacks.starts_with("3 of them"));
        assert!(judge_table(-libc::ENOTSUP, 0, 128).lacks.contains("handed over"));
    }

    #[test]
    fn flow_control_is_what_the_device_says_of_it() {
        let off = Choice::new("flow control", "off");
        for said in 0..=3 {
            assert_eq!(judge_no_pause(said, 0), off, "it was {said} and has been switched off");
        }
        assert_eq!(judge_no_pause(0, UNSUPPORTED), off, "it is, and nobody can change it");
        let own = judge_no_pause(UNSUPPORTED, 0);
        assert!(own.chosen.contains("does not tell") && own.lacks.is_empty(), "{own:?}");
        // A virtual function of bnxt tells, and does not set; so does mlx5.
        for (said, lack) in [(1, "stops the link"), (2, "the other end"), (3, "the other end")] {
            let on = judge_no_pause(said, UNSUPPORTED);
            assert!(on.chosen.starts_with("on: ") && on.lacks.starts_with("its driver does not"), "{on:?}");
            assert!(on.lacks.contains(lack), "{on:?}");
        }
        // What goes wrong is not passed over, whatever was said before.
        for code in [-libc::EIO, -libc::EINVAL] {
            let unknown = judge_no_pause(code, 0);
            assert!(unknown.chosen == "unknown" && unknown.lacks.contains("cannot be read"), "{unknown:?}");
            let off = judge_no_pause(0, code);
            assert!(off.chosen == "off" && off.lacks.contains("could not be asked"), "{off:?}");
            let on = judge_no_pause(3, code);
            assert!(on.chosen.starts_with("on: ") && on.lacks.contains("cannot be switched off"), "{on:?}");
        }

        assert_eq!(judge_pause(0), Some(Choice::new("flow control in force", "off")));
        assert_eq!(judge_pause(-libc::ENOTSUP), None);
        let lacks = |said| judge_pause(said).unwrap().lacks;
        assert!(lacks(1).contains("stops the link") && !lacks(1).contains("the other end"));
        assert!(!lacks(2).contains("stops the link") && lacks(2).contains("the other end"));
        assert!(lacks(3).contains("stops the link") && lacks(3).contains("the other end"));
        assert!(lacks(-libc::EIO).contains("cannot be read"));
    }
}
