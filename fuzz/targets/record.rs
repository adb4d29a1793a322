//! Bytes of the ring buffer, as a datapath of another version might write them:
//! every input is a record or a refusal.
#![no_main]

use datapath::Record;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let decoded = Record::decode(bytes);
    // A newer datapath may append to a record: what follows changes nothing.
    let mut longer = bytes.to_vec();
    longer.push(0);
    if decoded.is_ok() {
        assert_eq!(Record::decode(&longer), decoded);
    }
});
