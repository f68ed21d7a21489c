//! One whole SIP message: what it says about calls and registrations, and which of its addresses change.

use crate::contract::{
    Answer, Context, Denial, Edit, Endpoint, Fact, Gateway, MAX_EXCERPT, MAX_REPLACEMENT, Order, Side,
    Transport,
};
use crate::sip::METHODS;
use crate::sip::contacts::{MAX_CONTACTS, MAX_ECHOED, MAX_NEEDS, Need};
use crate::sip::message::{Name, Start, first_line, slice, start};
use arrayvec::ArrayVec;
use core::ops::Range;

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Goes,
    /// It does not, and the flow lives.
    Refuse(Denial),
    /// The flow is refused.
    Reset(Denial),
}

/// What the headers say that the rest of the reading needs.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) method: Method,
    /// Of a response.
    pub(super) code: Option<u16>,
    pub(super) call: Option<u64>,
    /// The number in CSeq.
    pub(super) cseq: u32,
    pub(super) expires: Option<u32>,
    pub(super) content_type: Option<Range<usize>>,
    pub(super) encoded: bool,
    pub(super) content_length: Option<Range<usize>>,
    /// The tags of From and To; 0 for none.
    pub(super) from_tag: u64,
    pub(super) to_tag: u64,
    /// Of a request to register the address of record, which is in To.
    pub(super) aor: u64,
    /// A subscription is over (RFC 6665 §4.1.3).
    pub(super) terminated: bool,
    /// The sender's own contacts, with what each says about its time.
    pub(super) contacts: ArrayVec<(Endpoint, Transport, Option<u32>), MAX_CONTACTS>,
    /// The other side's contacts, as a registrar repeats them.
    pub(super) echoed: ArrayVec<(Endpoint, Transport, Option<u32>), MAX_ECHOED>,
    /// There were more of them.
    pub(super) echoes_more: bool,
    /// Contacts of other phones inside: where each stands, whether it names a port, and the endpoint that it leads to.
    pub(super) others: ArrayVec<(Range<usize>, bool, Endpoint), MAX_ECHOED>,
    /// A proxy stays in the dialog (Record-Route).
    pub(super) routed: bool,
    pub(super) star: bool,
    /// Which of the headers that there must be one of were there, a bit each.
    pub(super) once: u8,
}

/// What a message is about: the method of a request, of a response that of its CSeq.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Method {
    Invite,
    Ack,
    Bye,
    Register,
    Options,
    /// PRACK and UPDATE: they may carry descriptions.
    Modifies,
    /// SUBSCRIBE and REFER: they ask for a subscription.
    Subscribes,
    Notify,
    #[default]
    Other,
}

impl Method {
    pub(super) fn of(method: &[u8]) -> Self {
        match method {
            b"INVITE" => Self::Invite,
            b"ACK" => Self::Ack,
            b"BYE" => Self::Bye,
            b"REGISTER" => Self::Register,
            b"OPTIONS" => Self::Options,
            b"PRACK" | b"UPDATE" => Self::Modifies,
            b"SUBSCRIBE" | b"REFER" => Self::Subscribes,
            b"NOTIFY" => Self::Notify,
            _ => Self::Other,
        }
    }

    /// Whether it begins a dialog, or names the contact of one anew (RFC 3261 §12, RFC 3311, RFC 6665).
    pub(super) const fn makes_dialogs(self) -> bool {
        matches!(self, Self::Invite | Self::Modifies | Self::Subscribes | Self::Notify)
    }
}

/// One message under way.
pub(super) struct Reading<'a, 'c, G> {
    pub(super) cx: &'a mut Context<'c, G>,
    pub(super) from: Side,
    pub(super) bytes: &'a [u8],
    pub(super) answer: &'a mut Answer,
    /// Where the message stands in the call.
    pub(super) start: usize,
    offset: u64,
    /// User-Agent and Server are made unreadable.
    pub(super) mask: bool,
    /// An endpoint of the sender's that a Via names and that is not the session's own.
    pub(super) via: Option<Endpoint>,
    /// Contacts that are needed when the message goes on.
    pub(super) needs: ArrayVec<Need, MAX_NEEDS>,
    pub(super) rule: Option<u16>,
    facts_from: usize,
}

/// Reads one message whose body begins at `head`. `start` is where it stands in the call.
pub(super) fn message<G: Gateway>(
    cx: &mut Context<'_, G>,
    from: Side,
    start: usize,
    offset: u64,
    bytes: &[u8],
    head: usize,
    answer: &mut Answer,
) -> Outcome {
    let (edits, facts_from) = (answer.edits.len(), answer.facts.len());
    let mask = cx.profile.sip.mask_software;
    cx.tables.calls.next();
    let mut reading = Reading {
        cx,
        from,
        bytes,
        answer,
        start,
        offset,
        mask,
        via: None,
        needs: ArrayVec::new(),
        rule: None,
        facts_from,
    };
    match reading.read(head) {
        Ok(()) => Outcome::Goes,
        Err(denial) => {
            let (rule, answer) = (reading.rule, &mut *reading.answer);
            // Nothing that was asked for on the way stays, and nothing is remembered.
            reading.cx.tables.calls.undo();
            answer.edits.truncate(edits);
            answer.expectations.clear();
            answer.orders.clear();
            answer.facts.truncate(facts_from);
            let line = first_line(bytes).map_or(bytes, |(end, _)| slice(bytes, 0..end));
            let before = line.iter().copied().take(MAX_EXCERPT).collect();
            answer
                .facts
                .try_push(Fact { from, offset, before, after: ArrayVec::new(), rule, denial: None })
                .ok();
            match denial {
                Stop::Refuse(denial) => Outcome::Refuse(denial),
                Stop::Reset(denial) => Outcome::Reset(denial),
            }
        }
    }
}

/// Why the reading of a message ends.
pub(super) enum Stop {
    Refuse(Denial),
    Reset(Denial),
}

impl From<Denial> for Stop {
    fn from(denial: Denial) -> Self {
        Self::Refuse(denial)
    }
}

impl<G: Gateway> Reading<'_, '_, G> {
    fn read(&mut self, head: usize) -> Result<(), Stop> {
        let (end, next) = first_line(self.bytes).ok_or(Denial::Malformed)?;
        let mut facts = Facts::default();
        let first = start(slice(self.bytes, 0..end)).ok_or(Denial::Malformed)?;
        match &first {
            Start::Request { method, .. } => {
                let word = slice(self.bytes, method.clone());
                facts.method = Method::of(word);
                if !self.cx.profile.sip.unknown_methods && !METHODS.contains(&word) {
                    return Err(Denial::Unsupported.into());
                }
            }
            Start::Response { code } => facts.code = Some(*code),
        }
        self.judge(&first, next)?;
        if let Start::Request { uri, .. } = &first {
            self.hosts(uri.clone(), Name::Route)?;
        }
        self.headers(next, &mut facts)?;
        // What every message has (RFC 3261 §8.1.1).
        let call = facts.call.ok_or(Denial::Malformed)?;
        let mut dialog = self.dialog(&facts, call)?;
        self.other_phones(&facts, dialog.as_ref())?;
        self.contacts(&facts, dialog.as_mut())?;
        let mut described = false;
        if facts.content_length.is_some() || head < self.bytes.len() {
            described = self.body(head, &facts, dialog.as_mut())?;
            if described {
                self.length(facts.content_length.clone(), head)?;
            }
        }
        self.need()?;
        if let Some(dialog) = dialog {
            self.settled(&facts, dialog, described)?;
        }
        if self.answer.orders.is_full() {
            // Its bound is above what a message gives: one that reaches it would leave something open.
            return Err(Denial::Limit.into());
        }
        if self.cx.tables.calls.lacks() {
            // So is that of the tables' changes: what was not noted could not be closed later.
            return Err(Denial::Limit.into());
        }
        self.tell();
        Ok(())
    }

    /// Translates a part of the message, unless it stays the same.
    pub(super) fn edit(
        &mut self,
        range: Range<usize>,
        with: ArrayVec<u8, MAX_REPLACEMENT>,
    ) -> Result<(), Stop> {
        self.replace(range, with, true)
    }

    pub(super) fn replace(
        &mut self,
        range: Range<usize>,
        with: ArrayVec<u8, MAX_REPLACEMENT>,
        translates: bool,
    ) -> Result<(), Stop> {
        if slice(self.bytes, range.clone()) == with.as_slice() {
            return Ok(());
        }
        if self.answer.edits.is_full() {
            return Err(Stop::Refuse(Denial::TooMany));
        }
        let start = self.start.saturating_add(range.start);
        // Edits ascend; parameters and Content-Length are found behind what they belong to.
        let place =
            self.answer.edits.iter().rposition(|e| e.start < start).map_or(0, |at| at.saturating_add(1));
        self.answer.edits.insert(place, Edit { start, len: range.len(), with, translates });
        Ok(())
    }

    /// Content-Length, after the body has changed.
    fn length(&mut self, header: Option<Range<usize>>, head: usize) -> Result<(), Stop> {
        let Some(header) = header else { return Ok(()) };
        let body = self.bytes.len().saturating_sub(head);
        let within = self.start.saturating_add(head);
        let edits = || self.answer.edits.iter().filter(|e| e.start >= within);
        let grown: usize = edits().map(|e| e.with.len()).sum();
        let shrunk: usize = edits().map(|e| e.len).sum();
        let new = body.saturating_add(grown).saturating_sub(shrunk);
        let text = slice(self.bytes, header.clone());
        let blanks = text.iter().take_while(|b| b.is_ascii_whitespace()).count();
        let range = header.start.saturating_add(blanks)..header.end;
        let with = decimal(u32::try_from(new).map_err(|_| Denial::TooLong)?);
        if slice(self.bytes, range.clone()).trim_ascii() == with.as_slice() {
            return Ok(());
        }
        self.edit(range, with)
    }

    pub(super) fn order(&mut self, order: Order) {
        // A message whose orders do not fit does not go on.
        self.answer.orders.try_push(order).ok();
    }

    /// Tells the audit log of a message that opens something or was asked to be told of.
    fn tell(&mut self) {
        if !self.answer.expectations.is_empty() && self.answer.facts.len() == self.facts_from {
            self.note();
        }
    }

    pub(super) fn note(&mut self) {
        let line = first_line(self.bytes).map_or(self.bytes, |(end, _)| slice(self.bytes, 0..end));
        let before: ArrayVec<u8, MAX_EXCERPT> = line.iter().copied().take(MAX_EXCERPT).collect();
        let after = before.clone();
        let fact =
            Fact { from: self.from, offset: self.offset, before, after, rule: self.rule, denial: None };
        self.answer.facts.try_push(fact).ok();
    }
}

/// A number as text.
pub(crate) fn decimal(n: u32) -> ArrayVec<u8, MAX_REPLACEMENT> {
    use std::io::Write;
    let mut text = ArrayVec::new();
    // Ten digits fit.
    write!(text, "{n}").ok();
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "clippy does not see that this is a test module")]
mod tests {
    use crate::contract::{
        Answer, Context, DatagramAlg, Denial, Endpoint, FlowContext, Gateway, Order, Parity, PublishError,
        Side, StreamAlg, Transport, Verdict,
    };
    use crate::profile::Profile;
    use crate::sip::{SipDatagrams, SipStream};
    use crate::tables::Tables;

    /// A gateway that translates nothing.
    struct Plain;

    impl Gateway for Plain {
        fn publish(
            &mut self,
            _: Side,
            _: Transport,
            endpoint: Endpoint,
            _: u16,
            _: Parity,
        ) -> Result<Endpoint, PublishError> {
            Ok(endpoint)
        }

        fn to_inside(&self, _: Transport, published: Endpoint) -> Option<Endpoint> {
            Some(published)
        }

        fn to_outside(&self, _: Transport, inside: Endpoint) -> Option<Endpoint> {
            Some(inside)
        }
    }

    fn end(text: &str) -> Endpoint {
        let at: core::net::SocketAddr = text.parse().unwrap();
        Endpoint::new(at.ip(), at.port())
    }

    fn flow(transport: Transport) -> FlowContext {
        FlowContext::between(transport, end("10.1.0.2:51000"), end("203.0.113.9:5060"))
    }

    fn send(tables: &mut Tables, from: Side, text: &str) -> (Verdict, Vec<Order>) {
        let flow = flow(Transport::Udp);
        let (profile, mut answer) = (Profile::default(), Answer::default());
        let mut cx = Context { flow: &flow, profile: &profile, gateway: &mut Plain, tables };
        let verdict = SipDatagrams::default().inspect(&mut cx, from, text.as_bytes(), &mut answer);
        (verdict, answer.orders.to_vec())
    }

    /// A message that changes more than can be taken back is not half done, and counts.
    #[test]
    fn what_cannot_be_noted_whole_does_not_go_on() {
        let message = |line: &str, contacts: &str| {
            format!(
                "{line}\r\nVia: SIP/2.0/UDP 10.1.0.2:51000\r\nFrom: <sip:a@x>;tag=a\r\nTo: <sip:a@x>\r\nCall-ID: r\r\n\
                 CSeq: 1 REGISTER\r\n{contacts}\r\n"
            )
        };
        let contacts = "Contact: <sip:a@10.1.0.2:5060>, <sip:a@10.1.0.2:5070>\r\n";
        let (ask, leave) =
            (message("REGISTER sip:x SIP/2.0", contacts), message("REGISTER sip:x SIP/2.0", ""));
        let (ok, none) = (message("SIP/2.0 200 OK", contacts), message("SIP/2.0 200 OK", ""));
        let closes = |orders: &[Order]| orders.iter().filter(|o| matches!(o, Order::Close { .. })).count();
        let mut tables = Tables::new();
        for (from, text) in [(Side::Initiator, &ask), (Side::Responder, &ok), (Side::Initiator, &leave)] {
            assert!(matches!(send(&mut tables, from, text).0, Verdict::Pass));
        }
        // Both contacts go.
        tables.calls.contacts.limit_changes(1);
        let (verdict, orders) = send(&mut tables, Side::Responder, &none);
        assert!(
            matches!(verdict, Verdict::Refuse(Denial::Limit)) && orders.is_empty(),
            "{verdict:?} {orders:?}"
        );
        assert_eq!(tables.take_refused_calls(), 1);
        tables.calls.contacts.limit_changes(64);
        let (verdict, orders) = send(&mut tables, Side::Responder, &none);
        assert!(matches!(verdict, Verdict::Pass), "nothing of it was done before: {verdict:?}");
        assert!(closes(&orders) >= 2, "{orders:?}");
        assert_eq!(tables.take_refused_calls(), 0);
    }

    /// The engine has no room for what a message asks for, and no place to answer it: its connection ends. Its calls may be of another
    /// session, where nothing of it stays.
    #[test]
    fn a_message_in_a_stream_that_cannot_be_answered_is_undone_too() {
        let invite = |id: &str| {
            format!(
                "INVITE sip:b@x SIP/2.0\r\nVia: SIP/2.0/TCP 10.1.0.2:51000\r\nFrom: <sip:a@x>;tag=a\r\nTo: <sip:b@x>\r\n\
                 Call-ID: {id}\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
            )
        };
        let mut profile = Profile::default();
        profile.sip.max_dialogs = 1;
        for undone in [false, true] {
            let (flow, mut tables, mut answer) = (flow(Transport::Tcp), Tables::new(), Answer::default());
            let read = |tables: &mut Tables, text: &str, answer: &mut Answer| {
                let mut cx = Context { flow: &flow, profile: &profile, gateway: &mut Plain, tables };
                let verdict =
                    SipStream::default().inspect(&mut cx, Side::Initiator, 0, text.as_bytes(), answer);
                (verdict, answer.reply.is_empty())
            };
            assert!(read(&mut tables, &invite("one"), &mut answer).1);
            if undone {
                let denial = Denial::NoResources;
                let mut none = Answer::default();
                let mut alg = SipStream::default();
                assert!(!alg.refuse(&flow, &mut tables, Side::Initiator, (0, b""), denial, &mut none));
            }
            answer.clear();
            let (verdict, goes) = read(&mut tables, &invite("two"), &mut answer);
            assert_eq!(goes, undone, "{verdict:?}");
        }
    }
}
