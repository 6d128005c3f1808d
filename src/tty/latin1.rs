//! The classes of bytes in the kernel's table of characters, which is Latin-1 (`lib/ctype.c`).

/// A control character: 00 to 1f and 7f; 80 to 9f are in no class (LD-56).
pub(super) const fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

/// A letter or a digit (LD-42).
pub(super) const fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0xc0 && byte != 0xd7 && byte != 0xf7
}

/// Upper case to lower case (LD-28).
pub(super) const fn to_lower(byte: u8) -> u8 {
    match byte {
        b'A'..=b'Z' | 0xc0..=0xd6 | 0xd8..=0xde => byte + 0x20,
        _ => byte,
    }
}

/// Lower case to upper case; df and ff, which have no upper case in Latin-1, change too (LD-143).
pub(super) const fn to_upper(byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' | 0xdf..=0xf6 | 0xf8..=0xff => byte - 0x20,
        _ => byte,
    }
}

/// A byte of a UTF-8 sequence after the first one.
pub(super) const fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_follow_latin_1_with_the_kernel_s_oddities() {
        assert_eq!([to_lower(b'A'), to_lower(0xc0), to_lower(0xd7)], [b'a', 0xe0, 0xd7]);
        assert_eq!([to_upper(0xe0), to_upper(0xf7), to_upper(0xdf)], [0xc0, 0xf7, 0xbf]);
        assert_eq!(to_upper(0xff), 0xdf);
    }
}
