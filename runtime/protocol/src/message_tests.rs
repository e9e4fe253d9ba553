use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn nested(depth: usize) -> Vec<u8> {
    let mut bytes = vec![0x91; depth];
    bytes.push(0xc0);
    bytes
}

#[test]
fn request_is_what_dask_sends() {
    let request = request("identity", true, vec![("n_workers", Value::from(0))]);
    let expected = b"\x83\xa2op\xa8identity\xa5reply\xc3\xa9n_workers\x00";
    assert_eq!(encode(&request), expected);
}

#[test]
fn keys_may_be_anything() {
    // {["a", 1]: 2, nil: 3, 4: 5} and a number as name.
    let bytes = b"\x83\x92\xa1a\x01\x02\xc0\x03\x04\x05";
    let value = decode(bytes, &MessageLimits::SMALL).unwrap();
    let keys: Vec<_> = value.as_map().unwrap().iter().map(|(key, _)| key.clone()).collect();
    let array = Value::Array(vec![Value::from("a"), Value::from(1)]);
    assert_eq!(keys, [array, Value::Nil, Value::from(4)]);
}

#[rstest]
#[case(b"", Error::Truncated)]
#[case(b"\xc1", Error::Malformed)]
#[case(b"\x93\x01\x02", Error::Truncated)]
#[case(b"\xa5four", Error::Truncated)]
#[case(b"\xc6\xff\xff\xff\xff", Error::Truncated)]
#[case(b"\xdb\x00\x00", Error::Truncated)]
#[case(b"\xc7\x02\x01\x00", Error::Truncated)]
#[case(b"\x01\x02\x03", Error::Trailing(2))]
#[case(b"\xdd\x00\x00\x00\x20", Error::Truncated)]
fn broken_bytes_are_refused(#[case] bytes: &[u8], #[case] error: Error) {
    assert_eq!(decode(bytes, &MessageLimits::SMALL), Err(error));
}

#[test]
fn depth_is_capped() {
    let limits = MessageLimits { depth: 10, ..MessageLimits::SMALL };
    assert!(decode(&nested(10), &limits).is_ok());
    assert_eq!(decode(&nested(11), &limits), Err(Error::TooDeep(10)));
    let endless = MessageLimits { depth: usize::MAX, ..MessageLimits::SMALL };
    assert!(decode(&nested(MessageLimits::MOST_DEPTH), &endless).is_ok());
    assert_eq!(decode(&nested(100_000), &endless), Err(Error::TooDeep(MessageLimits::MOST_DEPTH)));
}

#[rstest]
#[case(b"\xdd\xff\xff\xff\xff")]
#[case(b"\xdf\xff\xff\xff\xff")]
#[case(b"\x94\x00\x00\x00\x00")]
#[case(b"\x82\x00\x00\x00\x00")]
#[case(b"\x92\x92\x00\x00\x90")]
fn values_are_counted_when_they_are_announced(#[case] bytes: &[u8]) {
    let limits = MessageLimits { items: 4, ..MessageLimits::SMALL };
    assert_eq!(decode(bytes, &limits), Err(Error::TooMany(4)));
    let one_more = MessageLimits { items: 5, ..MessageLimits::SMALL };
    if bytes.len() == 5 && bytes[0] < 0xa0 {
        assert!(decode(bytes, &one_more).is_ok());
    }
}

/// Anything that can be written in msgpack.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f32>().prop_filter("NaN is not itself", |number| !number.is_nan()).prop_map(Value::from),
        any::<f64>().prop_filter("NaN is not itself", |number| !number.is_nan()).prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Value::from),
        (any::<i8>(), prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(kind, data)| Value::Ext(kind, data)),
    ];
    leaf.prop_recursive(4, 64, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Value::Array),
            prop::collection::vec((inner.clone(), inner), 0..20).prop_map(Value::Map),
        ]
    })
}

proptest! {
    #[test]
    fn every_value_survives(value in any_value()) {
        prop_assert_eq!(decode(&encode(&value), &MessageLimits::SMALL), Ok(value));
    }

    #[test]
    fn every_cut_is_noticed(value in any_value(), cut in any::<prop::sample::Index>()) {
        let bytes = encode(&value);
        let cut = cut.index(bytes.len());
        prop_assert_eq!(decode(&bytes[..cut], &MessageLimits::SMALL), Err(Error::Truncated));
    }
}
