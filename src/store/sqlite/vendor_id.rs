//! Vendors' message ids as they are stored, of which nothing is asked but to be told again. Many are UUIDs: 17 bytes instead of 36.

use uuid::Uuid;

/// First byte: what follows. The numbers are stored: never change one, append only.
const TEXT: u8 = 0;
const LOWER_UUID: u8 = 1;
const UPPER_UUID: u8 = 2;

/// The stored form.
pub fn pack(id: &str) -> Vec<u8> {
    if let Ok(uuid) = Uuid::try_parse(id) {
        for form in [LOWER_UUID, UPPER_UUID] {
            if written(uuid, form, &mut Uuid::encode_buffer()) == id {
                return [&[form], uuid.as_bytes().as_slice()].concat();
            }
        }
    }
    [&[TEXT], id.as_bytes()].concat()
}

/// The id; `None` where it is damaged or newer than this program.
pub fn unpack(stored: &[u8]) -> Option<String> {
    match stored.split_first()? {
        (&TEXT, id) => String::from_utf8(id.to_vec()).ok(),
        (form @ (&LOWER_UUID | &UPPER_UUID), id) => {
            Some(written(Uuid::from_slice(id).ok()?, *form, &mut Uuid::encode_buffer()).to_owned())
        }
        _ => None,
    }
}

fn written(uuid: Uuid, form: u8, buffer: &mut [u8]) -> &str {
    let uuid = uuid.hyphenated();
    if form == UPPER_UUID { uuid.encode_upper(buffer) } else { uuid.encode_lower(buffer) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_id_reads_back_as_it_was(
            id in prop_oneof![
                ".*",
                "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
                "[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}",
                "[0-9A-Fa-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
                "[0-9a-f]{32}",
            ],
        ) {
            prop_assert_eq!(unpack(&pack(&id)), Some(id));
        }

        #[test]
        fn what_is_damaged_is_no_id_and_no_panic(stored: Vec<u8>) {
            if let Some(id) = unpack(&stored) {
                prop_assert_eq!(unpack(&pack(&id)), Some(id));
            }
        }
    }

    #[test]
    fn a_uuid_takes_seventeen_bytes() {
        assert_eq!(pack("123e4567-e89b-12d3-a456-42665544000a").len(), 17);
        assert_eq!(pack("123E4567-E89B-12D3-A456-42665544000A").len(), 17);
        assert_eq!(pack("123e4567-e89b-12d3-a456-42665544000A").len(), 37);
    }
}
