//! Who a control connection is logged in as, for the command policy.
//!
//! A server may refuse another USER and go on with the one that it had. So the name that was asked for and the one that
//! the server has agreed to are both kept, and while they differ a command must be allowed to both.

/// Longest name that is remembered, in bytes. A longer one is refused where a policy has a say.
pub(super) const MAX_USER: usize = 64;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Name {
    len: u8,
    /// In halves: serde knows no longer arrays.
    bytes: [[u8; MAX_USER / 2]; 2],
}

impl Name {
    /// What fits; a name that does not is none.
    fn of(text: &[u8]) -> Self {
        let mut name = Self::default();
        if let Some(place) = name.bytes.as_flattened_mut().get_mut(..text.len()) {
            place.copy_from_slice(text);
            name.len = u8::try_from(text.len()).unwrap_or(0);
        }
        name
    }

    fn text(&self) -> &[u8] {
        self.bytes.as_flattened().get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// The two names. The default is nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Users {
    agreed: Name,
    asked: Name,
}

impl Users {
    /// USER goes to the server.
    pub(super) fn ask(&mut self, name: &[u8]) {
        self.asked = Name::of(name);
    }

    /// The server has decided about it.
    pub(super) fn decided(&mut self, positive: bool) {
        if positive {
            self.agreed = self.asked;
        } else {
            self.asked = self.agreed;
        }
    }

    /// Who a command is judged as: the name asked for, and the one that the server may go on with, if it is another.
    pub(super) fn names(&self) -> (&[u8], Option<&[u8]>) {
        let other = (self.agreed.len != 0 && self.agreed != self.asked).then(|| self.agreed.text());
        (self.asked.text(), other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_when_it_is_asked_and_until_another_is_agreed() {
        let mut users = Users::default();
        assert_eq!(users.names(), (&b""[..], None));
        users.ask(b"anonymous");
        assert_eq!(users.names(), (&b"anonymous"[..], None));
        users.decided(true);
        users.ask(b"bob");
        assert_eq!(users.names(), (&b"bob"[..], Some(&b"anonymous"[..])));
        users.decided(false);
        assert_eq!(users.names(), (&b"anonymous"[..], None));
        users.ask(&[b'x'; MAX_USER]);
        users.decided(true);
        assert_eq!(users.names(), (&[b'x'; MAX_USER][..], None));
    }
}
