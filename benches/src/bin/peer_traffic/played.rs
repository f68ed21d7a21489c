//! Files of frames: written for what plays them, and read back from what captured them.

use benches::rig::flows::{Place, Walk};
use benches::rig::foreign::Inspector;
use benches::rig::frame::{Kind, SHORTEST, Writer};
use dataplane::key::Protocol;
use dataplane::table::Direction;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Bytes of a frame's place in the file that the plug-in plays.
pub const SLOT: usize = 64;
/// Bytes of a capture file's head, and of a packet's.
const HEAD: usize = 24;
const RECORD: usize = 16;
/// Little endian, microseconds.
const MAGIC: [u8; 4] = 0xa1b2_c3d4u32.to_le_bytes();

/// Gives one datagram of each flow to `put`, in random order.
fn each(flows: u32, mut put: impl FnMut(&[u8; SHORTEST]) -> io::Result<()>) -> io::Result<()> {
    let mut order: Vec<u32> = (0..flows).collect();
    let mut walk = Walk::new(1);
    for at in (1..flows).rev() {
        order.swap(at as usize, walk.below(at + 1) as usize);
    }
    let writer = Writer::new(Protocol::Udp);
    for flow in order {
        let mut frame = [0; SHORTEST];
        writer.write(&mut frame, flow, Direction::Forward, Kind::Data, Place::default());
        put(&frame)?;
    }
    Ok(())
}

/// For the plug-in.
pub fn frames(flows: u32, file: &Path) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(file)?);
    each(flows, |frame| {
        out.write_all(frame)?;
        out.write_all(&[0; SLOT - SHORTEST])
    })?;
    out.flush()
}

/// Ethernet, microseconds, one frame after the other without a pause.
pub fn capture(flows: u32, file: &Path) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(file)?);
    let words = |out: &mut BufWriter<_>, words: &[u32]| -> io::Result<()> {
        words.iter().try_for_each(|w| out.write_all(&w.to_le_bytes()))
    };
    out.write_all(&MAGIC)?;
    words(&mut out, &[0x0004_0002, 0, 0, 65_535, 1])?;
    each(flows, |frame| {
        words(&mut out, &[0, 0, SHORTEST as u32, SHORTEST as u32])?;
        out.write_all(frame)
    })?;
    out.flush()
}

/// Looks at the packets of a capture: all must be translated.
pub fn check(file: &Path) -> io::Result<()> {
    let right = inspect(&std::fs::read(file)?).map_err(io::Error::other)?;
    println!("right {right}");
    Ok(())
}

/// How many packets a capture has, all of them right; or what is wrong.
fn inspect(capture: &[u8]) -> Result<usize, String> {
    if capture.get(..4) != Some(&MAGIC) {
        return Err("no capture file of this byte order".to_owned());
    }
    let mut rest = capture.get(HEAD..).unwrap_or(&[]);
    let mut inspector = Inspector::new(true);
    let mut right = 0;
    while let Some((head, behind)) = rest.split_at_checked(RECORD) {
        let len = head.get(8..12).map_or(0, |l| u32::from_le_bytes([l[0], l[1], l[2], l[3]])) as usize;
        // What is still being written.
        let Some((frame, next)) = behind.split_at_checked(len) else { break };
        if let Some(fault) = inspector.fault(frame) {
            return Err(fault);
        }
        right += 1;
        rest = next;
    }
    if right == 0 { Err("nothing was captured".to_owned()) } else { Ok(right) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn both_files_have_each_flow_once() {
        let folder = std::env::temp_dir().join(format!("postern-played-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (slots, pcap) = (folder.join("frames"), folder.join("pcap"));
        frames(1000, &slots).unwrap();
        capture(1000, &pcap).unwrap();
        let (slots, pcap) = (std::fs::read(slots).unwrap(), std::fs::read(pcap).unwrap());
        let writer = Writer::new(Protocol::Udp);
        let in_slots: Vec<_> = slots.chunks(SLOT).map(|s| writer.flow(&s[..SHORTEST])).collect();
        let in_pcap: Vec<_> =
            pcap[HEAD..].chunks(RECORD + SHORTEST).map(|p| writer.flow(&p[RECORD..])).collect();
        assert_eq!(in_slots, in_pcap);
        assert_eq!(in_slots.iter().copied().collect::<HashSet<_>>(), (0..1000).collect());
        assert_ne!(in_slots[..3], [0, 1, 2]);
        // They have not been through a gateway.
        assert!(inspect(&pcap).unwrap_err().starts_with("not translated"));
        assert!(inspect(&pcap[..HEAD]).unwrap_err().starts_with("nothing"));
        assert!(inspect(&[]).unwrap_err().starts_with("no capture file"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
