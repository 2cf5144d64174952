//! Cursors: how far a phone has got in its inbox, as an opaque text.
//!
//! A cursor is (device, epoch, position) under a check, in base64url. The check is against mistakes, not against
//! attackers: whatever a phone says, only what was handed to it can end.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::secrets::token::crc32;

/// Not a cursor of this device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no cursor that this device was given")]
pub(super) struct BadCursor;

/// The text for a position.
pub(super) fn encode(device: u64, epoch: u32, pos: i64) -> String {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&epoch.to_be_bytes());
    bytes[4..12].copy_from_slice(&pos.to_be_bytes());
    let check = check(device, &bytes[..12]);
    bytes[12..].copy_from_slice(&check);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The position; `None` where the cursor is of another epoch: the device was registered anew since.
pub(super) fn decode(device: u64, epoch: u32, text: &str) -> Result<Option<i64>, BadCursor> {
    let mut bytes = [0; 16];
    match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
        Ok(16) if bytes[12..] == check(device, &bytes[..12]) => {}
        _ => return Err(BadCursor),
    }
    let of = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let pos = bytes[4..12].iter().fold(0u64, |pos, byte| (pos << 8) | u64::from(*byte));
    Ok((of == epoch).then_some(pos as i64))
}

fn check(device: u64, body: &[u8]) -> [u8; 4] {
    crc32(&[b"cursor", &device.to_be_bytes()[..], body].concat()).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_leads_back_to_its_position_and_only_for_its_device(
            device: u64, other: u64, epoch: u32, later: u32, pos in 0i64..,
        ) {
            let text = encode(device, epoch, pos);
            prop_assert_eq!(text.len(), 22);
            prop_assert_eq!(decode(device, epoch, &text), Ok(Some(pos)));
            if later != epoch {
                prop_assert_eq!(decode(device, later, &text), Ok(None));
            }
            // A check of 32 bits: two devices that are close together never share it.
            if other != device && other.abs_diff(device) < 1 << 16 {
                prop_assert_eq!(decode(other, epoch, &text), Err(BadCursor));
            }
        }

        #[test]
        fn garbage_is_refused(text in ".{0,40}", at in 0usize..22, letter in "[A-Za-z0-9_-]") {
            prop_assert_eq!(decode(1, 1, &text), Err(BadCursor));
            let mut changed = encode(1, 1, 99);
            changed.replace_range(at..=at, &letter);
            prop_assume!(changed != encode(1, 1, 99));
            prop_assert_eq!(decode(1, 1, &changed), Err(BadCursor));
        }
    }
}
