//! Sizes as people write them: `100G`, `1.5T`, `4096`. Units are powers of 1024.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

const UNITS: [(char, u32); 6] = [('E', 60), ('P', 50), ('T', 40), ('G', 30), ('M', 20), ('K', 10)];

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no size: write it as 100G, 1.5T or 4096 (K, M, G, T, P, E; 1K is 1024)");
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let shift = shift_of(unit).ok_or_else(wrong)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        // 18 digits of each are beyond any size and far from an overflow of 128 bits.
        if whole.is_empty() || fraction.is_empty() || whole.len() > 20 || fraction.len() > 18 {
            return Err(wrong());
        }
        let whole: u128 = whole.parse().map_err(|_| wrong())?;
        let digits = u32::try_from(fraction.len()).map_err(|_| wrong())?;
        let fraction: u128 = fraction.parse().map_err(|_| wrong())?;
        let bytes = (whole << shift) + ((fraction << shift) / 10_u128.pow(digits));
        u64::try_from(bytes).map(Size).map_err(|_| format!("{text:?} is more than can be counted"))
    }
}

fn shift_of(unit: &str) -> Option<u32> {
    let unit = unit.to_ascii_uppercase();
    let letter = match unit.strip_suffix("IB") {
        Some(letter) => letter,
        None if unit == "B" || unit.is_empty() => return Some(0),
        None => &unit,
    };
    UNITS.iter().find(|(name, _)| letter.chars().eq([*name])).map(|(_, shift)| *shift)
}

impl Serialize for Size {
    /// As people write it where that is exact, else as a number.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.to_string();
        match text.parse() {
            Ok(exact) if self == &exact => serializer.serialize_str(&text),
            _ => serializer.serialize_u64(self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"100G\" or 4096")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes).map(Size).map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(bytes))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl fmt::Display for Size {
    /// With at most one digit after the point: exact for what people choose, rounded for what is measured.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => return f.pad("0"),
            bytes @ 1..1024 => return f.pad(&format!("{bytes}B")),
            _ => {}
        }
        let bytes = u128::from(self.0);
        for (at, (name, shift)) in UNITS.iter().enumerate().rev() {
            let tenths = (bytes * 10 + (1 << (shift - 1))) >> shift;
            // What rounds to 1024 of a unit is written as one of the next.
            if tenths < 10_240 || at == 0 {
                return match tenths % 10 {
                    0 => f.pad(&format!("{}{name}", tenths / 10)),
                    tenth => f.pad(&format!("{}.{tenth}{name}", tenths / 10)),
                };
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("512B", 512),
            ("4k", 4096),
            ("100G", 100 << 30),
            ("100GiB", 100 << 30),
            ("1.5T", 3 << 39),
            ("0.25K", 256),
            ("15E", 15 << 60),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in
            ["", "G", ".5G", "5.G", "-1G", "1GB", "1 G", "ten", "16E", "1.2.3K", "99999999999999999999999"]
        {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn writes_what_people_read() {
        for (bytes, text) in [
            (0, "0"),
            (512, "512B"),
            (1023, "1023B"),
            (4096, "4K"),
            (1536, "1.5K"),
            (100 << 30, "100G"),
            ((1 << 20) - 1, "1M"),
            ((1 << 30) - 4096, "1G"),
            (3 << 39, "1.5T"),
            (u64::MAX, "16E"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }

    #[test]
    fn a_configuration_file_has_them_either_way() {
        for bytes in [0, 4096, 4097, 100 << 30] {
            let json = serde_json::to_string(&Size(bytes)).expect("JSON");
            assert_eq!(serde_json::from_str::<Size>(&json).expect("a size"), Size(bytes), "{json}");
        }
        assert!(
            serde_json::from_str::<Size>("-1").is_err() && serde_json::from_str::<Size>("\"x\"").is_err()
        );
    }

    #[test]
    fn what_is_written_exactly_comes_back() {
        for text in ["4K", "1.5K", "256M", "100G", "2.5T", "7P"] {
            assert_eq!(text.parse::<Size>().map(|size| size.to_string()), Ok(text.to_owned()));
        }
    }
}
