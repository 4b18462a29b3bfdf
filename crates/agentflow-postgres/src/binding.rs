//! The hash of a server's certificate that binds a password exchange to its TLS connection.

use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const OBJECT_ID: u8 = 0x06;

/// Algorithms that sign with SHA-384, and with SHA-512: RSA and ECDSA, as DER of their ids.
const SHA384: [&[u8]; 2] = [
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c],
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03],
];
const SHA512: [&[u8]; 2] = [
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d],
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04],
];
/// Those that sign with SHA-256, and the ones with MD5 and SHA-1, which are hashed with SHA-256
/// too.
const SHA256: [&[u8]; 5] = [
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04],
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05],
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b],
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01],
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02],
];

/// `tls-server-end-point` of a certificate in DER: its hash, by the hash function of its own
/// signature. `None` if that function is not clear (Ed25519, RSA-PSS).
///
/// Source: RFC 5929, section 4.1.
pub(crate) fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let algorithm = signature_algorithm(certificate)?;
    if SHA256.contains(&algorithm) {
        Some(Sha256::digest(certificate).to_vec())
    } else if SHA384.contains(&algorithm) {
        Some(Sha384::digest(certificate).to_vec())
    } else if SHA512.contains(&algorithm) {
        Some(Sha512::digest(certificate).to_vec())
    } else {
        None
    }
}

/// The id of the algorithm in `SEQUENCE { content, SEQUENCE { id, … }, signature }`.
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    let (outer, _) = element(certificate, SEQUENCE)?;
    let (_, rest) = element(outer, SEQUENCE)?;
    let (algorithm, _) = element(rest, SEQUENCE)?;
    element(algorithm, OBJECT_ID).map(|(id, _)| id)
}

/// The content of the first element, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let count = usize::from(first & 0x7f);
        // Certificates of 4 GB and more do not occur.
        if count > 4 {
            return None;
        }
        let (digits, after) = rest.split_at_checked(count)?;
        length = digits
            .iter()
            .fold(0, |length, digit| length << 8 | usize::from(*digit));
        rest = after;
    }
    (found == tag).then(|| rest.split_at_checked(length))?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `SEQUENCE { SEQUENCE { filler }, SEQUENCE { id }, filler }`, lengths in the long form.
    fn certificate(id: &[u8]) -> Vec<u8> {
        let sequence = |content: &[u8]| {
            let length = u16::try_from(content.len()).expect("it is short");
            let mut all = vec![SEQUENCE, 0x82];
            all.extend(length.to_be_bytes());
            all.extend(content);
            all
        };
        let mut algorithm = vec![OBJECT_ID, u8::try_from(id.len()).expect("it is short")];
        algorithm.extend(id);
        let content = [sequence(&[7; 300]), sequence(&algorithm), vec![3, 1, 0]];
        sequence(&content.concat())
    }

    #[test]
    fn the_hash_is_the_one_of_the_signature() {
        let length = |id: &[u8]| end_point(&certificate(id)).map(|hash| hash.len());
        for (ids, bytes) in [(&SHA256[..], 32), (&SHA384[..], 48), (&SHA512[..], 64)] {
            for id in ids {
                assert_eq!(length(id), Some(bytes));
            }
        }
        // Ed25519.
        assert_eq!(length(&[0x2b, 0x65, 0x70]), None);
    }

    #[test]
    fn what_is_no_certificate_has_no_hash() {
        let whole = certificate(SHA256[2]);
        for end in 0..whole.len() {
            assert_eq!(end_point(&whole[..end]), None);
        }
        assert_eq!(end_point(&[SEQUENCE, 0xff, 1, 2, 3]), None);
    }
}
