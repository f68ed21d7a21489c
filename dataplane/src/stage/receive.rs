//! Receive: frames from a port, parsed, to items. ARP goes to the control core, fragments to where their datagram meets.

use crate::buf::{Aggregate, BufPool, Packet, PacketBuf};
use crate::counters::Counter;
use crate::drop_reason::DropReason;
use crate::event::Frame;
use crate::fib::PortMap;
use crate::key::{InterfaceId, ZoneId};
use crate::packet::vlan::{self, Tag};
use crate::packet::{Fragment, Parse, parse};
use crate::port::Port;
use crate::stage::{Context, Item, UNFRAGMENTED};
use crate::worker::Local;

/// What a frame is.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once, and a box would be an allocation")]
pub(crate) enum Received<B> {
    /// A packet.
    Item(Item<B>),
    /// A part of one, as it came in from this interface and zone.
    Fragment(Fragment, (InterfaceId, ZoneId), B),
    /// TCP segments that a device has put together, as they came in from this interface.
    Aggregate(Aggregate, InterfaceId, B),
    /// None of the journey's: it was dropped and counted, or went to control.
    Nothing,
}

/// The interface that a frame of a port belongs to. Takes its tag off.
pub(crate) fn untag<B: PacketBuf>(port: &PortMap, buf: &mut B) -> Result<InterfaceId, DropReason> {
    let tag = vlan::tag(buf.bytes());
    let interface = match tag {
        Tag::None | Tag::Vlan(0) => port.untagged().ok_or(DropReason::VlanMissing)?,
        Tag::Vlan(id) => port.of_vlan(id).ok_or(DropReason::VlanUnknown)?,
        Tag::Stacked => return Err(DropReason::VlanStacked),
        Tag::Truncated => return Err(DropReason::EthTruncated),
    };
    if tag != Tag::None && !vlan::strip(buf) {
        return Err(DropReason::EthTruncated);
    }
    Ok(interface)
}

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// Takes the tag off a frame, and tells fragments and ARP from packets.
    pub(crate) fn receive(
        &mut self,
        cx: &Context<'_>,
        mut ingress: InterfaceId,
        hops: u8,
        mut buf: P::Buf,
    ) -> Received<P::Buf> {
        if vlan::tag(buf.bytes()) != Tag::None {
            // A port without VLANs, or a test mode: where there are VLANs, tags are off by now.
            let port = cx.fib.interface(ingress).and_then(|interface| cx.fib.port(interface.port));
            match port.ok_or(DropReason::TxNoPort).and_then(|port| untag(port, &mut buf)) {
                Ok(interface) => ingress = interface,
                Err(reason) => {
                    self.drop(cx, reason, 1);
                    return Received::Nothing;
                }
            }
        }
        let Some(interface) = cx.fib.interface(ingress) else {
            self.drop(cx, DropReason::TxNoPort, 1);
            return Received::Nothing;
        };
        if !buf.is_linear() {
            if let Some(aggregate) = buf.aggregate() {
                return Received::Aggregate(aggregate, ingress, buf);
            }
            self.drop(cx, DropReason::NotLinear, 1);
            return Received::Nothing;
        }
        let zone = interface.zone;
        match parse(buf.bytes(), interface.mac) {
            Parse::Arp => {
                self.punt(cx, ingress, &buf);
                Received::Nothing
            }
            Parse::Fragment(fragment) => Received::Fragment(fragment, (ingress, zone), buf),
            parse => self
                .itemize(cx, (ingress, zone), hops, UNFRAGMENTED, Packet::Port(buf), &parse)
                .map_or(Received::Nothing, Received::Item),
        }
    }

    /// Parses a datagram that was put together from fragments.
    pub(crate) fn understand(
        &mut self,
        cx: &Context<'_>,
        ingress: InterfaceId,
        hops: u8,
        longest: u16,
        buf: Packet<P::Buf>,
    ) -> Option<Item<P::Buf>> {
        let Some(interface) = cx.fib.interface(ingress) else {
            self.drop(cx, DropReason::TxNoPort, 1);
            return None;
        };
        let parse = parse(buf.bytes(), interface.mac);
        self.itemize(cx, (ingress, interface.zone), hops, longest, buf, &parse)
    }

    /// A parsed packet becomes an item, or is dropped and counted.
    fn itemize(
        &mut self,
        cx: &Context<'_>,
        (ingress, zone): (InterfaceId, ZoneId),
        hops: u8,
        longest: u16,
        mut buf: Packet<P::Buf>,
        parse: &Parse,
    ) -> Option<Item<P::Buf>> {
        let (parsed, key) = match *parse {
            Parse::Ip(parsed) => (parsed, parsed.key(zone)),
            Parse::Error(parsed, quoted) => (parsed, quoted.answer_key(zone)),
            Parse::Drop(reason) => {
                self.drop(cx, reason, 1);
                return None;
            }
            // Neither comes out of fragments, nor gets here else.
            Parse::Arp | Parse::Fragment(_) => {
                self.drop(cx, DropReason::FragmentMalformed, 1);
                return None;
            }
        };
        if !cx.policy.zone(zone).ip_options.contain(parsed.options) {
            self.drop(cx, DropReason::Ipv4OptionsDenied, 1);
            return None;
        }
        // What the frame has behind the IP packet is padding: it must not travel on.
        let padding = buf.bytes().len().saturating_sub(parsed.frame_len());
        if !buf.trim_back(padding) {
            self.drop(cx, DropReason::Ipv4TotalLength, 1);
            return None;
        }
        let hash = cx.shared.table.hash(&key);
        Some(Item { buf, longest, ingress, parsed, key, hash, target: None, hops, original: None })
    }

    fn punt(&mut self, cx: &Context<'_>, interface: InterfaceId, buf: &P::Buf) {
        let Some(lane) = cx.shared.lane(self.id) else { return };
        let head = buf.bytes().get(..crate::event::MAX_PUNT).unwrap_or(buf.bytes());
        let mut frame = Frame { interface, bytes: arrayvec::ArrayVec::new() };
        let copied = frame.bytes.try_extend_from_slice(head).is_ok();
        if copied && lane.punts.push(frame).is_ok() {
            lane.counters.add(Counter::Punted, 1);
        } else {
            lane.counters.add(Counter::PuntsLost, 1);
        }
    }
}
