//! One worker's mappings: endpoint-independent ones (RFC 4787 REQ-1, RFC 5382 REQ-1, RFC 5508 REQ-1), and those of single
//! sessions, where the policy wants endpoint-dependent ones.
//!
//! By the first, whatever an inside endpoint sends to, it is seen from outside at one endpoint, per protocol (RFC 7857 §5). One of the
//! second is its session's alone: no other finds it, and its port is chosen so that replies come in at this worker. A
//! binding lives while someone counts on it: sessions, and expectations that were published on it. Its port then rests
//! in hold-down. Read and written on session misses only, by one worker only.
//!
//! Nothing grows after the start: entries are a slab, half a cache line each, and the index has room for all of them.

use crate::home::Landing;
use crate::key::{Addrs, FlowKey, Protocol, Tick, WorkerId, ZoneId};
use crate::memory::{Region, Zeroed};
use crate::nat::hold_down::HoldDown;
use crate::nat::index::Index;
use crate::nat::ports::{FIRST_PORT, PortHint, PortSpace};
use crate::nat::registry::Registry;
use crate::nat::room::Room;
use crate::policy::{Mapping, NatAddress, PoolAddr};
use crate::table::HashKey;
use alg::Parity;
use arrayvec::ArrayVec;
use core::net::{IpAddr, Ipv4Addr};

/// Longest run of consecutive ports that one [`Bindings::publish`] may ask for.
pub const MAX_PUBLISH: u16 = 8;

/// What a binding is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BindingKey {
    /// Protocol.
    pub protocol: Protocol,
    /// Inside address.
    pub addr: IpAddr,
    /// Inside port, or identifier of ICMP echo.
    pub port: u16,
    /// The translated address; of a pool the one that the inside address is paired with, also where the binding had to
    /// take another.
    pub pool: PoolAddr,
}

/// A mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// What it is found by, unless it is one session's alone.
    pub inside: BindingKey,
    /// The translated address.
    pub outside_addr: Ipv4Addr,
    /// Its port space.
    pub outside_pool: PoolAddr,
    /// The translated port.
    pub outside_port: u16,
    /// How many count on it.
    pub refs: u32,
    /// Whether it is its inside endpoint's, or one session's alone.
    pub mapping: Mapping,
}

/// Names a binding of one worker. A binding that has ended is not taken for its successor in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BindingId {
    index: u32,
    version: u32,
}

impl BindingId {
    /// No binding.
    pub const NONE: Self = Self { index: u32::MAX, version: 0 };

    /// As one word, to be kept in an atomic.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        (self.version as u64) << 32 | self.index as u64
    }

    /// From [`Self::to_bits`].
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32, version: (bits >> 32) as u32 }
    }
}

/// Why there is no binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// This worker's blocks of the translated address have no port that would do.
    #[error("no free port of this worker at the translated address")]
    PortsExhausted,
    /// The table of bindings is full.
    #[error("the table of bindings is full")]
    TableFull,
}

/// What [`Bindings::publish`] reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The translated address.
    pub addr: Ipv4Addr,
    /// The first translated port.
    pub port: u16,
    /// One binding a port, in order. Each was given one reference, to be released one by one.
    pub ids: ArrayVec<BindingId, { MAX_PUBLISH as usize }>,
}

/// The hash of a [`BindingKey`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BindingHash(u64);

/// A [`Binding`] as it is kept, or a free place. Nothing but zeroes is a place that is free and always was.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(32))]
pub(super) struct Slot {
    /// Counts the bindings that ended here.
    version: u32,
    /// How many count on the binding. While free: [`Bindings::free`] as it was before.
    refs: u32,
    inside_addr: u32,
    outside_addr: u32,
    inside_port: u16,
    outside_port: u16,
    inside_pool: u16,
    outside_pool: u16,
    /// High half of its key's hash, which is all that the index asks for. Of no use if `alone`.
    hash: u32,
    /// Its number; 0 while free.
    protocol: u8,
    /// One session's alone.
    alone: bool,
}

const _: () = assert!(size_of::<Slot>() == 32);

// SAFETY: integers, and a bool that zero is a value of; no drop glue.
unsafe impl Zeroed for Slot {}

impl Slot {
    /// None while free.
    #[inline]
    fn binding(&self) -> Option<Binding> {
        let inside = BindingKey {
            protocol: Protocol::from_number(self.protocol)?,
            addr: IpAddr::V4(Ipv4Addr::from_bits(self.inside_addr)),
            port: self.inside_port,
            pool: PoolAddr(self.inside_pool),
        };
        Some(Binding {
            inside,
            outside_addr: Ipv4Addr::from_bits(self.outside_addr),
            outside_pool: PoolAddr(self.outside_pool),
            outside_port: self.outside_port,
            refs: self.refs,
            mapping: if self.alone { Mapping::EndpointDependent } else { Mapping::EndpointIndependent },
        })
    }

    const fn is_free(&self) -> bool {
        self.protocol == 0
    }
}

/// The bindings of one worker.
pub struct Bindings {
    worker: WorkerId,
    slots: Option<Region<Slot>>,
    /// One more than the number of a place that a binding has left; 0 if there is none.
    free: u32,
    /// Places below had a binding at some time.
    touched: u32,
    len: usize,
    index: Index,
    secret: HashKey,
}

impl Bindings {
    /// The bindings of `worker` in their part of a room; if that has been taken, none fits. `seed` keys the index: let it be
    /// random, so that nobody outside can choose collisions.
    #[must_use]
    pub fn new(worker: WorkerId, room: &mut Room, seed: u64) -> Self {
        Self {
            worker,
            slots: room.slots.take(),
            free: 0,
            touched: 0,
            len: 0,
            index: Index::new(room),
            // Four words out of one, each depending on all of it (the finisher of splitmix64).
            secret: HashKey::new([1u64, 2, 3, 4].map(|n| {
                let z = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                z ^ (z >> 31)
            })),
        }
    }

    /// How many bindings live.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether none does.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slots().len()
    }

    #[inline]
    fn slots(&self) -> &[Slot] {
        self.slots.as_deref().unwrap_or_default()
    }

    /// The binding of an id, unless it has ended.
    #[must_use]
    #[inline]
    pub fn get(&self, id: BindingId) -> Option<Binding> {
        let slot = self.slots().get(id.index as usize)?;
        if slot.version == id.version { slot.binding() } else { None }
    }

    /// The binding of an inside endpoint, if it has one. Takes no reference.
    #[must_use]
    pub fn find(&self, key: &BindingKey) -> Option<BindingId> {
        self.find_hashed(self.hash(key), key)
    }

    /// The same with the key's hash.
    #[must_use]
    #[inline]
    pub fn find_hashed(&self, hash: BindingHash, key: &BindingKey) -> Option<BindingId> {
        let index = self.index.find(hash.0, |i| self.holds(i, key))?;
        Some(BindingId { index, version: self.slots().get(index as usize)?.version })
    }

    /// Brings near where the search of this hash begins.
    #[inline]
    pub fn approach(&self, hash: BindingHash) {
        self.index.prefetch(hash.0);
    }

    /// Brings near the binding that a search of this hash will look at first.
    #[inline]
    pub fn approach_slot(&self, hash: BindingHash) {
        if let Some(slot) = self.index.find(hash.0, |_| true).and_then(|i| self.slots().get(i as usize)) {
            crate::prefetch(slot);
        }
    }

    /// Brings near the binding of an id.
    #[inline]
    pub fn approach_id(&self, id: BindingId) {
        if let Some(slot) = self.slots().get(id.index as usize) {
            crate::prefetch(slot);
        }
    }

    /// Brings near what taking this binding, which is near, out of the index will touch.
    #[inline]
    pub fn approach_end(&self, id: BindingId) {
        if let Some(slot) = self.slots().get(id.index as usize)
            && !slot.alone
        {
            self.index.prefetch(u64::from(slot.hash) << 32);
        }
    }

    /// The hash of a key.
    #[must_use]
    #[inline]
    pub fn hash(&self, key: &BindingKey) -> BindingHash {
        let addrs = match key.addr {
            IpAddr::V4(a) => Addrs::V4(a.to_bits(), u32::from(key.pool.0)),
            #[expect(clippy::cast_possible_truncation, reason = "two halves")]
            IpAddr::V6(a) => {
                Addrs::V6([(a.to_bits() >> 64) as u64, a.to_bits() as u64], [0, u64::from(key.pool.0)])
            }
        };
        let key = FlowKey { addrs, sport: key.port, dport: 0, protocol: key.protocol, scope: ZoneId(0) };
        BindingHash(self.secret.hash(&key).0)
    }

    /// The binding of `inside`, made if there is none, with one reference for the caller. The translated port is the
    /// inside one if it is free, else one of the same parity that `random` chooses, if there is any
    /// ([`PortSpace::alloc`]). `ports` must be the space of `outside.pool`.
    ///
    /// # Errors
    /// No port, or no room.
    pub fn get_or_create(
        &mut self,
        protocol: Protocol,
        inside: (IpAddr, u16),
        outside: NatAddress,
        ports: &PortSpace,
        random: u64,
    ) -> Result<BindingId, BindError> {
        self.get_or_create_of(protocol, inside, outside.pool, [(outside, ports)], random)
    }

    /// The same at the first of several addresses that has a port. `paired` is the number of the one that the inside
    /// address is paired with (RFC 4787 REQ-2): it must be the same at every call for that address, and be tried first.
    ///
    /// # Errors
    /// No port at any, or no room.
    pub fn get_or_create_of<'p>(
        &mut self,
        protocol: Protocol,
        inside: (IpAddr, u16),
        paired: PoolAddr,
        outside: impl IntoIterator<Item = (NatAddress, &'p PortSpace)>,
        random: u64,
    ) -> Result<BindingId, BindError> {
        let key = BindingKey { protocol, addr: inside.0, port: inside.1, pool: paired };
        let hash = self.hash(&key);
        if let Some(id) = self.find_hashed(hash, &key) {
            self.retain(id);
            return Ok(id);
        }
        self.create(hash, key, outside, || random)
    }

    /// The binding of an inside endpoint that has none, as [`Self::get_or_create_of`] makes it, of the key's hash. A random number is
    /// drawn only where one is needed.
    ///
    /// # Errors
    /// No port at any, or no room.
    pub fn create<'p>(
        &mut self,
        hash: BindingHash,
        key: BindingKey,
        outside: impl IntoIterator<Item = (NatAddress, &'p PortSpace)>,
        mut random: impl FnMut() -> u64,
    ) -> Result<BindingId, BindError> {
        self.admits(key.addr, 1)?;
        let hint = PortHint::like(key.port);
        let (address, port) = outside
            .into_iter()
            .find_map(|(address, ports)| {
                Some((address, ports.alloc_drawing(self.worker, key.protocol, hint, &mut random)?))
            })
            .ok_or(BindError::PortsExhausted)?;
        self.insert(Some(hash), key, address, port).ok_or(BindError::TableFull)
    }

    /// A binding for one session alone, with one reference for the caller, at the first of several addresses that has a port;
    /// and whether its replies come in at this worker. Of each address there is where the session's replies come in, by
    /// their destination port. That is `inside`'s own if it fits; see [`PortSpace::alloc_landing`].
    ///
    /// # Errors
    /// No port at any, or no room.
    pub fn create_alone<'p>(
        &mut self,
        protocol: Protocol,
        inside: (IpAddr, u16),
        paired: PoolAddr,
        outside: impl IntoIterator<Item = (NatAddress, &'p PortSpace, Landing<'p>)>,
        mut random: impl FnMut() -> u64,
    ) -> Result<(BindingId, bool), BindError> {
        self.admits(inside.0, 1)?;
        let (address, (port, fits)) = outside
            .into_iter()
            .find_map(|(address, ports, landing)| {
                let port = ports.alloc_landing(self.worker, protocol, inside.1, &landing, &mut random)?;
                Some((address, port))
            })
            .ok_or(BindError::PortsExhausted)?;
        let key = BindingKey { protocol, addr: inside.0, port: inside.1, pool: paired };
        let id = self.insert(None, key, address, port).ok_or(BindError::TableFull)?;
        Ok((id, fits))
    }

    /// For an ALG: reserves the translation of `count` consecutive inside ports from `inside` on, as consecutive
    /// outside ports of the wished parity, with one reference each for the expectation that is to come.
    ///
    /// An inside endpoint that has a binding keeps it, and the wish for parity yields: mapping alike (RFC 4787 REQ-1)
    /// is the stronger rule. Where some ports of the run have bindings and others have not, the others must fit
    /// beside them. So does its address, where that is another of the pool.
    ///
    /// # Errors
    /// No ports that would do, or no room. Nothing is reserved then.
    pub fn publish(
        &mut self,
        protocol: Protocol,
        inside: (IpAddr, u16),
        outside: NatAddress,
        ports: &PortSpace,
        wish: (u16, Parity),
        random: u64,
    ) -> Result<Published, BindError> {
        let (count, parity) = (wish.0.max(1), wish.1);
        if count > MAX_PUBLISH || inside.1.checked_add(count - 1).is_none() {
            return Err(BindError::PortsExhausted);
        }
        let key = |i: u16| BindingKey {
            protocol,
            addr: inside.0,
            port: inside.1.wrapping_add(i),
            pool: outside.pool,
        };
        let mut found = [None; MAX_PUBLISH as usize];
        for (i, slot) in (0..count).zip(&mut found) {
            *slot = self.find(&key(i));
        }
        let missing = usize::from(count) - found.iter().flatten().count();
        self.admits(inside.0, missing)?;

        let mut outside = outside;
        let first = match (0..).zip(found).find_map(|(i, id)| Some((i, self.get(id?)?))) {
            None => {
                let hint = PortHint { preferred: inside.1, parity, count };
                ports.alloc(self.worker, protocol, hint, random).ok_or(BindError::PortsExhausted)?
            }
            Some((i, binding)) => {
                let first: u16 = binding.outside_port.checked_sub(i).ok_or(BindError::PortsExhausted)?;
                let there = NatAddress { addr: binding.outside_addr, pool: binding.outside_pool };
                if there != outside && missing > 0 {
                    return Err(BindError::PortsExhausted); // `ports` are another address's
                }
                outside = there;
                self.complete(protocol, ports, (outside.pool, first), count, &found)?;
                first
            }
        };

        let mut ids = ArrayVec::new();
        for (i, id) in (0..count).zip(found) {
            let id = match id {
                Some(id) => {
                    self.retain(id);
                    id
                }
                // There is room: it was counted above.
                None => self
                    .insert(Some(self.hash(&key(i))), key(i), outside, first + i)
                    .ok_or(BindError::TableFull)?,
            };
            ids.push(id);
        }
        Ok(Published { addr: outside.addr, port: first, ids })
    }

    /// One more reference. False if the binding has ended.
    pub fn retain(&mut self, id: BindingId) -> bool {
        let Some(slot) = self.get_mut(id) else { return false };
        slot.refs = slot.refs.saturating_add(1);
        true
    }

    /// One reference less. With the last one the binding ends and its port begins to rest. False if the binding had
    /// ended already: a defect of the caller, without effect.
    pub fn release(&mut self, id: BindingId, now: Tick, hold_down: &mut HoldDown) -> bool {
        let Some(binding) = self.unrefer(id) else { return false };
        if binding.refs == 0 {
            self.remove(id);
            hold_down.push(now, binding.outside_pool, binding.inside.protocol, binding.outside_port);
        }
        true
    }

    /// Takes a reference back that nothing has left the gateway with: the session or expectation that asked for it came
    /// to nothing. As [`Self::release`], but that the port of a binding that ends has nothing to rest from: else packets
    /// that a full table refuses would use up the ports.
    pub fn cancel(&mut self, id: BindingId, registry: &Registry) -> bool {
        let Some(binding) = self.unrefer(id) else { return false };
        if binding.refs == 0 {
            self.remove(id);
            let (protocol, port) = (binding.inside.protocol, binding.outside_port);
            let freed =
                registry.get(binding.outside_pool).is_some_and(|p| p.free(self.worker, protocol, port));
            debug_assert!(freed, "port {port} was not taken");
        }
        true
    }

    /// Every binding that lives.
    pub fn iter(&self) -> impl Iterator<Item = Binding> {
        self.slots().iter().filter_map(Slot::binding)
    }

    /// Whether there is room for so many more, of this inside address. None but IPv4 is translated.
    fn admits(&self, inside: IpAddr, count: usize) -> Result<(), BindError> {
        if inside.is_ipv6() {
            return Err(BindError::PortsExhausted);
        }
        if self.capacity() - self.len < count { Err(BindError::TableFull) } else { Ok(()) }
    }

    /// Takes the ports of a run that its existing bindings do not have, or nothing.
    fn complete(
        &self,
        protocol: Protocol,
        ports: &PortSpace,
        (pool, first): (PoolAddr, u16),
        count: u16,
        found: &[Option<BindingId>],
    ) -> Result<(), BindError> {
        let run = || (0..count).zip(found).map(|(i, id)| (first.checked_add(i), id));
        let mut fits = run().all(|(port, id)| match id {
            Some(id) => self.get(*id).is_some_and(|b| b.outside_pool == pool && Some(b.outside_port) == port),
            None => port.is_some_and(|p| {
                p >= FIRST_PORT && ports.owner(p) == self.worker && !ports.is_taken(protocol, p)
            }),
        });
        for (port, _) in run().filter(|(_, id)| id.is_none()) {
            fits = fits && port.is_some_and(|p| ports.alloc_exact(self.worker, protocol, p, 1));
        }
        if fits { Ok(()) } else { Err(BindError::PortsExhausted) }
    }

    #[inline]
    fn holds(&self, index: u32, key: &BindingKey) -> bool {
        self.slots().get(index as usize).and_then(Slot::binding).is_some_and(|b| b.inside == *key)
    }

    fn get_mut(&mut self, id: BindingId) -> Option<&mut Slot> {
        let slot = self.slots.as_deref_mut()?.get_mut(id.index as usize)?;
        (slot.version == id.version && !slot.is_free()).then_some(slot)
    }

    /// One reference less, and what is left.
    fn unrefer(&mut self, id: BindingId) -> Option<Binding> {
        let slot = self.get_mut(id)?;
        slot.refs = slot.refs.saturating_sub(1);
        slot.binding()
    }

    /// With its hash it is found by its key, without it is alone.
    fn insert(
        &mut self,
        hash: Option<BindingHash>,
        inside: BindingKey,
        outside: NatAddress,
        outside_port: u16,
    ) -> Option<BindingId> {
        let IpAddr::V4(inside_addr) = inside.addr else { return None };
        // One that was left, else the next that nobody has had.
        let index = self.free.checked_sub(1).unwrap_or(self.touched);
        let slot = self.slots.as_deref_mut()?.get_mut(index as usize)?;
        if self.free == 0 {
            self.touched += 1;
        } else {
            self.free = slot.refs;
        }
        *slot = Slot {
            version: slot.version,
            refs: 1,
            inside_addr: inside_addr.to_bits(),
            outside_addr: outside.addr.to_bits(),
            inside_port: inside.port,
            outside_port,
            inside_pool: inside.pool.0,
            outside_pool: outside.pool.0,
            hash: hash.map_or(0, |hash| (hash.0 >> 32) as u32),
            protocol: inside.protocol as u8,
            alone: hash.is_none(),
        };
        let id = BindingId { index, version: slot.version };
        self.len += 1;
        if let Some(hash) = hash {
            self.index.insert(hash.0, index);
        }
        // Bindings end in any order: the place that the next one will have is nowhere near.
        if let Some(next) = self.free.checked_sub(1) {
            self.approach_id(BindingId { index: next, version: 0 });
        }
        Some(id)
    }

    fn remove(&mut self, id: BindingId) {
        let before = self.free;
        let Some(slot) = self.get_mut(id) else { return };
        let found_by = (!slot.alone).then_some(slot.hash);
        *slot = Slot { version: slot.version.wrapping_add(1), refs: before, ..Slot::default() };
        self.free = id.index + 1;
        self.len -= 1;
        if let Some(hash) = found_by {
            self.index.remove(u64::from(hash) << 32, id.index);
        }
    }
}

#[cfg(test)]
#[path = "bindings_tests.rs"]
mod tests;
