//! Fragments as hosts make them and put them together: by hand, not by the code under test.

use dataplane::packet::checksum;

/// A frame without "don't fragment" and with this identification.
pub fn identified(mut frame: Vec<u8>, id: u16) -> Vec<u8> {
    frame[18..20].copy_from_slice(&id.to_be_bytes());
    frame[20..22].copy_from_slice(&[0, 0]);
    assert!(checksum::ipv4_fill(&mut frame[14..34]));
    frame
}

/// Bytes `from..to` of a frame's IP payload as a fragment, `more` as said.
pub fn piece(frame: &[u8], from: usize, to: usize, more: bool) -> Vec<u8> {
    let mut piece = [&frame[..34], &frame[34 + from..34 + to]].concat();
    piece[16..18].copy_from_slice(&((20 + to - from) as u16).to_be_bytes());
    let flags = u16::from_be_bytes([frame[20], frame[21]]) & 0x4000;
    let field = flags | (from / 8) as u16 | if more { 0x2000 } else { 0 };
    piece[20..22].copy_from_slice(&field.to_be_bytes());
    assert!(checksum::ipv4_fill(&mut piece[14..34]));
    piece
}

/// All fragments of a frame, `size` bytes of payload each.
pub fn split(frame: &[u8], size: usize) -> Vec<Vec<u8>> {
    let len = frame.len() - 34;
    (0..len).step_by(size).map(|at| piece(frame, at, len.min(at + size), at + size < len)).collect()
}

/// The datagram of these fragments, in order; each is checked to be one. One frame that is no fragment is itself.
pub fn join(frames: &[Vec<u8>], mtu: usize) -> Vec<u8> {
    let mut whole = frames[0][..34].to_vec();
    for (n, frame) in frames.iter().enumerate() {
        assert!(checksum::is_valid(&frame[14..34]), "{frame:02x?}");
        let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        assert_eq!(total + 14, frame.len());
        assert!(total <= mtu, "{total} bytes on a link of {mtu}");
        let field = u16::from_be_bytes([frame[20], frame[21]]);
        assert_eq!(usize::from(field & 0x1FFF) * 8, whole.len() - 34, "the offset of fragment {n}");
        assert_eq!(field & 0x2000 != 0, n + 1 < frames.len(), "more fragments");
        assert_eq!((&frame[..14], &frame[18..20]), (&whole[..14], &whole[18..20]), "MAC addresses and id");
        whole.extend_from_slice(&frame[34..]);
    }
    let total = (whole.len() - 14) as u16;
    whole[16..18].copy_from_slice(&total.to_be_bytes());
    whole[20] &= 0x40;
    whole[21] = 0;
    assert!(checksum::ipv4_fill(&mut whole[14..34]));
    whole
}
