//! The fields of an mbuf that the packet path touches, each a load or a store at the offset that the C compiler gave.

use crate::{
    POSTERN_MBUF_BUF_ADDR, POSTERN_MBUF_BUF_LEN, POSTERN_MBUF_DATA_LEN, POSTERN_MBUF_DATA_OFF,
    POSTERN_MBUF_NB_SEGS, POSTERN_MBUF_OL_FLAGS, POSTERN_MBUF_PKT_LEN, rte_mbuf,
};

macro_rules! getter {
    ($(#[$doc:meta])* $name:ident: $type:ty = $offset:expr) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// `m` points at an mbuf that the caller holds.
        #[inline(always)]
        pub unsafe fn $name(m: *const rte_mbuf) -> $type {
            // SAFETY: the offset is the field's own, and the shim asserts its width.
            unsafe { m.byte_add($offset as usize).cast::<$type>().read() }
        }
    };
}

macro_rules! setter {
    ($(#[$doc:meta])* $name:ident: $type:ty = $offset:expr) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// `m` points at an mbuf that the caller alone holds, and the packet stays within its buffer.
        #[inline(always)]
        pub unsafe fn $name(m: *mut rte_mbuf, value: $type) {
            // SAFETY: the offset is the field's own, and the shim asserts its width.
            unsafe { m.byte_add($offset as usize).cast::<$type>().write(value) }
        }
    };
}

getter!(/// Start of the segment's buffer, before its headroom.
    buf_addr: *mut u8 = POSTERN_MBUF_BUF_ADDR);
getter!(/// Bytes of the segment's buffer, headroom and tailroom included.
    buf_len: u16 = POSTERN_MBUF_BUF_LEN);
getter!(/// Bytes from the buffer's start to the data.
    data_off: u16 = POSTERN_MBUF_DATA_OFF);
getter!(/// Bytes of data in this segment.
    data_len: u16 = POSTERN_MBUF_DATA_LEN);
getter!(/// Bytes of the packet, over all its segments. Only the first segment's counts.
    pkt_len: u32 = POSTERN_MBUF_PKT_LEN);
getter!(/// Number of segments. Only the first segment's counts.
    nb_segs: u16 = POSTERN_MBUF_NB_SEGS);
getter!(/// What the device says of a received packet, and what it shall do for one that is sent.
    ol_flags: u64 = POSTERN_MBUF_OL_FLAGS);
setter!(/// Moves the data's start.
    set_data_off: u16 = POSTERN_MBUF_DATA_OFF);
setter!(/// Sets the bytes of data in this segment.
    set_data_len: u16 = POSTERN_MBUF_DATA_LEN);
setter!(/// Sets what is said of the packet.
    set_ol_flags: u64 = POSTERN_MBUF_OL_FLAGS);
setter!(/// Sets the bytes of the packet.
    set_pkt_len: u32 = POSTERN_MBUF_PKT_LEN);
