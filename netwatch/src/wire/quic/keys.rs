//! Keys of Initial packets (RFC 9001 section 5).

use ring::aead::quic::{AES_128, HeaderProtectionKey};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

use super::packet::Initial;
use super::version::Derivation;

const SECRET: usize = 32;
const KEY: usize = 16;
const IV: usize = 12;
const SAMPLE: usize = 16;
/// Maximum length of a packet number, bytes. The sample for header protection starts where the
/// longest one would end.
const MAX_NUMBER: usize = 4;

/// The keys that decrypt the Initial packets of the client.
pub(super) struct Keys {
    key: LessSafeKey,
    iv: [u8; IV],
    header: HeaderProtectionKey,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

impl Keys {
    /// Derives the keys from the connection id that the client chose for the server.
    pub fn client(derivation: &Derivation, destination: &[u8]) -> Option<Self> {
        let initial = Salt::new(HKDF_SHA256, derivation.salt).extract(destination);
        let secret: [u8; SECRET] = expand(&initial, b"client in")?;
        let secret = Prk::new_less_safe(HKDF_SHA256, &secret);
        let [key, iv, header] = derivation.labels;
        let key: [u8; KEY] = expand(&secret, key)?;
        let header: [u8; KEY] = expand(&secret, header)?;
        Some(Self {
            key: LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).ok()?),
            iv: expand(&secret, iv)?,
            header: HeaderProtectionKey::new(&AES_128, &header).ok()?,
        })
    }

    /// Decrypts a packet; `None` if the client did not send it, or if it is damaged.
    pub fn open(&self, packet: &Initial<'_>) -> Option<Vec<u8>> {
        let sample_at = packet.number_at + MAX_NUMBER;
        let mask = self.header.new_mask(packet.bytes.get(sample_at..sample_at + SAMPLE)?).ok()?;
        let first = packet.bytes[0] ^ mask[0] & 0x0f;
        let number_length = usize::from(first & 3) + 1;
        let header_length = packet.number_at + number_length;
        let mut header = packet.bytes[..header_length].to_vec();
        header[0] = first;
        for (byte, mask) in header[packet.number_at..].iter_mut().zip(&mask[1..]) {
            *byte ^= mask;
        }
        // Initial packets are the first ones of a connection, so their numbers are not truncated.
        let number = header[packet.number_at..].iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
        let mut payload = packet.bytes[header_length..].to_vec();
        let length = self.key.open_in_place(self.nonce(number), Aad::from(&header), &mut payload).ok()?.len();
        payload.truncate(length);
        Some(payload)
    }

    fn nonce(&self, number: u32) -> Nonce {
        let mut nonce = self.iv;
        for (byte, number) in nonce[IV - 4..].iter_mut().zip(number.to_be_bytes()) {
            *byte ^= number;
        }
        Nonce::assume_unique_for_key(nonce)
    }

    #[cfg(test)]
    pub(super) fn mask(&self, sample: &[u8]) -> [u8; 5] {
        self.header.new_mask(sample).unwrap()
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand-Label (RFC 8446 section 7.1) without context.
fn expand<const N: usize>(secret: &Prk, label: &[u8]) -> Option<[u8; N]> {
    let length = u16::try_from(N).ok()?.to_be_bytes();
    let label_length = [u8::try_from(b"tls13 ".len() + label.len()).ok()?];
    let info: [&[u8]; 5] = [&length, &label_length, b"tls13 ", label, &[0]];
    let mut output = [0; N];
    secret.expand(&info, Length(N)).ok()?.fill(&mut output).ok()?;
    Some(output)
}
