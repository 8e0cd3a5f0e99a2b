//! The fields of tar headers: numbers, texts, times, pax records. Pure.

use super::fault::Fault;

/// A field's text: up to its first NUL.
pub fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    &field[..end]
}

/// The name in a header: the `prefix` field counts in the POSIX form only, GNU keeps other things there.
pub fn header_name(block: &[u8; 512]) -> Vec<u8> {
    let name = text(&block[..100]);
    let prefix = text(&block[345..500]);
    if &block[257..263] == b"ustar\0" && !prefix.is_empty() { [prefix, b"/", name].concat() } else { name.to_vec() }
}

/// Compares a header's checksum; some old writers summed signed bytes.
pub fn check_sum(block: &[u8; 512]) -> Result<(), Fault> {
    let stated = number(&block[148..156])?;
    let (mut unsigned, mut signed) = (0_u64, 0_i64);
    for (at, byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&at) { b' ' } else { *byte };
        unsigned += u64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    if stated == unsigned || i64::try_from(stated) == Ok(signed) {
        Ok(())
    } else {
        Err(Fault::invalid("A layer is no tar archive: a header's checksum is wrong."))
    }
}

/// A number in octal digits, or in GNU's base 256 where the first bit is set. An empty field is 0.
pub fn number(field: &[u8]) -> Result<u64, Fault> {
    match field.first() {
        // The second bit is the sign.
        Some(0x80..=0xbf) => {
            let mut value = u64::from(field[0] & 0x3f);
            for byte in &field[1..] {
                value = value.checked_mul(256).ok_or_else(odd)? | u64::from(*byte);
            }
            Ok(value)
        }
        Some(0xc0..) => Err(odd()),
        _ => {
            let digits = text(field).trim_ascii();
            let mut value = 0_u64;
            for byte in digits {
                let digit = byte.checked_sub(b'0').filter(|digit| *digit < 8).ok_or_else(odd)?;
                value = value.checked_mul(8).ok_or_else(odd)? | u64::from(digit);
            }
            Ok(value)
        }
    }
}

/// A header's time in seconds; one before 1970 (a negative number) becomes 1970.
pub fn header_time(field: &[u8]) -> Result<i64, Fault> {
    if matches!(field.first(), Some(0xc0..)) {
        return Ok(0);
    }
    i64::try_from(number(field)?).map_err(|_| odd())
}

/// A user or group: pax's number before the header's. The largest number means "leave it" to the kernel.
pub fn owner(pax: Option<u64>, field: &[u8]) -> Result<u32, Fault> {
    let id = match pax {
        Some(id) => id,
        None => number(field)?,
    };
    u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or_else(odd)
}

/// Decimal digits.
pub fn decimal(value: &[u8]) -> Result<u64, Fault> {
    let mut number = 0_u64;
    if value.is_empty() {
        return Err(odd());
    }
    for byte in value {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10).ok_or_else(odd)?;
        number = number.checked_mul(10).and_then(|number| number.checked_add(digit.into())).ok_or_else(odd)?;
    }
    Ok(number)
}

/// A pax time: seconds with a fraction; one before 1970 becomes 1970.
pub fn pax_time(value: &[u8]) -> Result<(i64, u32), Fault> {
    if value.starts_with(b"-") {
        return Ok((0, 0));
    }
    let at = value.iter().position(|byte| *byte == b'.').unwrap_or(value.len());
    let seconds = i64::try_from(decimal(&value[..at])?).map_err(|_| odd())?;
    let fraction = value.get(at + 1..).unwrap_or_default();
    let mut nanoseconds = 0;
    for place in 0..9 {
        let digit = match fraction.get(place) {
            Some(byte) => byte.checked_sub(b'0').filter(|digit| *digit < 10).ok_or_else(odd)?,
            None => 0,
        };
        nanoseconds = nanoseconds * 10 + u32::from(digit);
    }
    Ok((seconds, nanoseconds))
}

/// Key, value and the bytes behind a record.
type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// Key, value and what follows of `<length> <key>=<value>\n`; the length counts all of it.
pub fn pax_record(bytes: &[u8]) -> Result<Record<'_>, Fault> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ').ok_or_else(odd)?;
    let length = usize::try_from(decimal(&bytes[..space])?).map_err(|_| odd())?;
    let record = bytes.get(space + 1..length).and_then(|record| record.strip_suffix(b"\n")).ok_or_else(odd)?;
    let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(odd)?;
    Ok((&record[..equals], &record[equals + 1..], &bytes[length..]))
}

/// Appends the pieces of a sparse map: offset and length, twelve bytes each. Answers whether the map is full, so that
/// more may follow.
pub fn sparse_pieces(map: &[u8], pieces: &mut Vec<(u64, u64)>) -> Result<bool, Fault> {
    for piece in map.chunks_exact(24) {
        if piece[0] == 0 {
            return Ok(false);
        }
        pieces.push((number(&piece[..12])?, number(&piece[12..])?));
    }
    Ok(true)
}

fn odd() -> Fault {
    Fault::invalid("A layer has a malformed entry header.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(number(b"0000644\0").expect("octal"), 0o644);
        assert_eq!(number(b" 644 \0\0\0").expect("padded"), 0o644);
        assert_eq!(number(b"\0\0\0\0").expect("empty"), 0);
        assert_eq!(number(b"\x80\0\0\0\0\0\0\x02\0\0\0\0").expect("base 256"), 2 << 32);
        for bad in [&b"12x"[..], b"8", b"\xff\xff\xff\xff", b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"] {
            assert!(number(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn pax_records_are_cut_by_their_length() {
        let (key, value, rest) = pax_record(b"12 path=a\nb\n8 k=v=w\n").expect("a record");
        assert_eq!((key, value, rest), (&b"path"[..], &b"a\nb"[..], &b"8 k=v=w\n"[..]));
        for bad in [&b"99 path=a\n"[..], b"3 a", b"path=a\n", b"0 a=b\n", b"6 a=bc\n", b" a=b\n", b"5 ab\n"] {
            assert!(pax_record(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_keep_their_fraction() {
        assert_eq!(pax_time(b"1350244992.023960108").expect("a time"), (1_350_244_992, 23_960_108));
        assert_eq!(pax_time(b"5.5").expect("a time"), (5, 500_000_000));
        assert_eq!(pax_time(b"-3.1").expect("a time"), (0, 0));
        assert!(pax_time(b"x").is_err());
        assert!(owner(Some(u64::from(u32::MAX)), b"").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 1..40)) {
            let _ = number(&bytes);
            let _ = pax_record(&bytes);
            let _ = pax_time(&bytes);
        }
    }
}
