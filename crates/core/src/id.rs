//! Identifiers: how each is minted and read. They are opaque: nothing parses one for a meaning.
//!
//! All consist of unreserved characters (RFC 3986 §2.3), so that no client has to encode them.

use std::fmt;
use std::str::FromStr;

use rand::Rng;
use serde::{Deserialize, Deserializer, Serialize};

/// An identifier that does not have the form of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {kind}")]
pub struct InvalidId {
    /// The noun of what was expected, such as `VM id`.
    pub kind: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.to_owned())) } else { Err(InvalidId { kind: $kind }) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id! {
    /// A VM: 14 lower-case hex digits, such as `e784996f346483`.
    VmId, "VM id", |text| text.len() == 14 && is_lower_hex(text)
}
id! {
    /// An image: a ULID in upper case, such as `01GTZHKS9CZHQ1NKZCA3LG0H4D`.
    ImageId, "image id", |text| is_ulid(text, false)
}
id! {
    /// A build: a UUID of version 4 (RFC 9562) in lower case.
    BuildId, "build id", is_uuid_v4
}
id! {
    /// A webhook endpoint: a ULID in upper case.
    WebhookId, "webhook id", |text| is_ulid(text, false)
}
id! {
    /// An event that endpoints are told of: a ULID in upper case, the same in every delivery.
    EventId, "event id", |text| is_ulid(text, false)
}
id! {
    /// A builder's account: a ULID in upper case.
    AccountId, "account id", |text| is_ulid(text, false)
}
id! {
    /// An API key's public name: a ULID in upper case. It is not the secret.
    KeyId, "key id", |text| is_ulid(text, false)
}
id! {
    /// The first label of a VM's hostname: a ULID in lower case.
    HostLabel, "hostname label", |text| is_ulid(text, true)
}
id! {
    /// A host that runs VMs: a ULID in upper case, kept in the host's data directory.
    HostId, "host id", |text| is_ulid(text, false)
}
id! {
    /// One life of a host: a ULID in upper case, new for each data directory and each boot.
    Incarnation, "incarnation", |text| is_ulid(text, false)
}
id! {
    /// A data directory's short name: 4 characters of `0-9a-v`. All names that this instance takes
    /// from its host (interfaces, network namespaces, tables, cgroups) begin with it.
    InstanceId, "instance id", |text| {
        text.len() == 4 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'v'))
    }
}

/// The count of a VM's placements: it grows by one with each, and orders all reports about the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation of a VM's first placement.
    pub const FIRST: Self = Self(1);

    /// The generation of the next placement.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl VmId {
    /// A new random VM id.
    pub fn mint(rng: &mut impl Rng) -> Self {
        let mut bytes = [0u8; 7];
        rng.fill_bytes(&mut bytes);
        Self(hex::encode(bytes))
    }
}

impl BuildId {
    /// A new random build id.
    pub fn mint(rng: &mut impl Rng) -> Self {
        let mut bytes = [0u8; 16];
        rng.fill_bytes(&mut bytes);
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let hex = hex::encode(bytes);
        Self([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
    }
}

impl InstanceId {
    /// A new random instance id.
    pub fn mint(rng: &mut impl Rng) -> Self {
        const ALPHABET: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
        let mut bytes = [0u8; 4];
        rng.fill_bytes(&mut bytes);
        Self(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect())
    }
}

impl HostLabel {
    /// A new hostname label. `now_ms` is Unix time in milliseconds.
    pub fn mint(now_ms: u64, rng: &mut impl Rng) -> Self {
        Self(ulid(now_ms, rng).to_ascii_lowercase())
    }
}

macro_rules! mint_ulid {
    ($($name:ident),*) => {$(
        impl $name {
            /// A new identifier. `now_ms` is Unix time in milliseconds.
            pub fn mint(now_ms: u64, rng: &mut impl Rng) -> Self {
                Self(ulid(now_ms, rng))
            }
        }
    )*};
}
mint_ulid!(ImageId, WebhookId, EventId, AccountId, KeyId, HostId, Incarnation);

fn ulid(now_ms: u64, rng: &mut impl Rng) -> String {
    let random = (u128::from(rng.next_u64()) << 64) | u128::from(rng.next_u64());
    ulid::Ulid::from_parts(now_ms, random).to_string()
}

/// Version 4, variant 1, as it is written: `xxxxxxxx-xxxx-4xxx-[89ab]xxx-xxxxxxxxxxxx`.
fn is_uuid_v4(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            14 => byte == b'4',
            19 => matches!(byte, b'8' | b'9' | b'a' | b'b'),
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Crockford's base 32, 26 digits, the first at most 7: 128 bits.
fn is_ulid(text: &str, lower: bool) -> bool {
    let digit = |b: u8| {
        let upper = if lower { b.to_ascii_uppercase() } else { b };
        let case = !(lower && b.is_ascii_uppercase());
        case && matches!(upper, b'0'..=b'9' | b'A'..=b'H' | b'J' | b'K' | b'M' | b'N' | b'P'..=b'T' | b'V'..=b'Z')
    };
    text.len() == 26 && text.as_bytes()[0] <= b'7' && text.bytes().all(digit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    #[test]
    fn minted_ids_read_back() {
        let mut rng = StdRng::seed_from_u64(7);
        for now_ms in [0, 1_678_329_810_243, (1 << 48) - 1] {
            let vm = VmId::mint(&mut rng);
            assert_eq!(vm.as_str().parse(), Ok(vm));
            let image = ImageId::mint(now_ms, &mut rng);
            assert_eq!(image.as_str().parse(), Ok(image));
            let label = HostLabel::mint(now_ms, &mut rng);
            assert_eq!(label.as_str().parse(), Ok(label));
            let build = BuildId::mint(&mut rng);
            assert_eq!(build.as_str().parse(), Ok(build));
            let instance = InstanceId::mint(&mut rng);
            assert_eq!(instance.as_str().parse(), Ok(instance));
        }
    }

    #[test]
    fn the_contracts_examples_have_the_form() {
        assert!("e784996f346483".parse::<VmId>().is_ok());
        assert!("01gv2zfbt345trtrdk6vhbeccz".parse::<HostLabel>().is_ok());
        // The contract's image id examples contain an `L`, which is no ULID digit: ours never do.
        assert!("01GTZHKS9CZHQ1NKZCA3G0H4DX".parse::<ImageId>().is_ok());
    }

    #[test]
    fn other_forms_are_refused() {
        for bad in ["", "e784996f34648", "E784996F346483", "e784996f346483\n", "../../etc/pass", "e784996f34648\u{e9}"]
        {
            assert!(bad.parse::<VmId>().is_err(), "{bad:?}");
        }
        for bad in ["", "81GTZHKS9CZHQ1NKZCA3AG0H4D", "01gtzhks9czhq1nkzca3ag0h4d", "01GTZHKS9CZHQ1NKZCA3IG0H4D"] {
            assert!(bad.parse::<ImageId>().is_err(), "{bad:?}");
        }
        assert!("01GV2ZFBT345TRTRDK6VHBECCZ".parse::<HostLabel>().is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_panic(text in ".*") {
            let _ = text.parse::<VmId>();
            let _ = text.parse::<ImageId>();
            let _ = text.parse::<HostLabel>();
            let _ = text.parse::<BuildId>();
            let _ = text.parse::<InstanceId>();
        }
    }
}
