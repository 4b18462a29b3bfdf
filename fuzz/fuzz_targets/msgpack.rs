//! Bytes from a database decode to a value or an error; what decodes encodes to the same value.

#![no_main]

use agentflow_storage::msgpack;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(value) = msgpack::decode(data) {
        let again = msgpack::encode(&value);
        let back = msgpack::decode(&again).expect("what was encoded decodes");
        // NaN is not equal to itself; its bytes are.
        assert_eq!(msgpack::encode(&back), again);
    }
});
