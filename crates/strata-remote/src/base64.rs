//! Base64 (RFC 4648, standard alphabet), for logins. It is too small to be worth a dependency.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Standard base64, with padding (RFC 4648).
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            match digit <= group.len() {
                true => {
                    let sextet = bits >> (18 - 6 * digit) & 63;
                    text.push(char::from(ALPHABET[sextet as usize]));
                }
                false => text.push('='),
            }
        }
    }
    text
}

/// The bytes of a text, padded or not; None when it is not base64.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0_u32);
    for byte in text.trim().trim_end_matches('=').bytes() {
        let sextet = ALPHABET.iter().position(|&digit| digit == byte)?;
        bits = (bits << 6 | u32::try_from(sextet).ok()?) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_goes_round() {
        for text in ["", "f", "fo", "foo", "foob", "fooba", "foobar", "user:pass\u{ff}"] {
            let encoded = encode(text.as_bytes());
            assert_eq!(decode(&encoded).as_deref(), Some(text.as_bytes()), "{encoded}");
        }
        assert_eq!(encode(b"foob"), "Zm9vYg==");
    }
}
