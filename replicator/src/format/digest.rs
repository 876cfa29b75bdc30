//! Hashes and identities, and how they are written: lower-case hexadecimal digits.

use std::fmt;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

macro_rules! identity {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// Reads its digits.
            ///
            /// # Errors
            /// [`Kind::Invalid`] for anything but as many lower-case hexadecimal digits as it has.
            pub fn parse(text: &str) -> Result<Self> {
                let wrong = || {
                    let digits = 2 * $bytes;
                    Error::new(Kind::Invalid, "read identity", format!("{text:?} is not {digits} hexadecimal digits"))
                };
                let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| wrong())?;
                bytes.try_into().map(Self).map_err(|_| wrong())
            }

            /// Its first digits, enough for a person to tell it from others.
            pub fn short(&self) -> String {
                HEXLOWER.encode(&self.0[..6])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(identity: $name) -> Self {
                identity.to_string()
            }
        }
    };
}

identity! {
    /// A BLAKE3 hash.
    Digest, 32
}
identity! {
    /// A vault, drawn at random when it is made.
    VaultId, 16
}
identity! {
    /// A key that frames are encrypted with, or a slot that holds one; drawn at random. All zeros: no key.
    KeyId, 16
}
identity! {
    /// A pool that points come from.
    PoolId, 16
}
identity! {
    /// An Ed25519 public key: who signed an entry of the log.
    Signer, 32
}

impl Digest {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_its_digits_and_nothing_else() {
        let digest = Digest::of(b"firn");
        assert_eq!(Digest::parse(&digest.to_string()).unwrap(), digest);
        assert_eq!(serde_json::from_str::<Digest>(&serde_json::to_string(&digest).unwrap()).unwrap(), digest);
        let upper = digest.to_string().to_uppercase();
        for text in ["", "00", &digest.to_string()[1..], &upper, "zz"] {
            assert_eq!(Digest::parse(text).unwrap_err().kind(), Kind::Invalid, "{text}");
        }
    }
}
