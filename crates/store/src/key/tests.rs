//! Encoded keys sort as the values do, and read back as what they were.

use proptest::prelude::*;

use super::*;

fn encoded<K>(key: &(impl AsKey<K> + ?Sized)) -> Vec<u8> {
    let mut out = Vec::new();
    key.encode(&mut out);
    out
}

fn check<K: Key + Ord + std::fmt::Debug>(a: &K, b: &K) -> Result<(), TestCaseError> {
    let (a_bytes, b_bytes) = (encoded::<K>(a), encoded::<K>(b));
    prop_assert_eq!(a.cmp(b), a_bytes.cmp(&b_bytes));
    prop_assert_eq!(&decode_all::<K>(&a_bytes), &Ok(K::decode(&mut a_bytes.as_slice()).expect("just encoded")));
    prop_assert_eq!(a, &decode_all::<K>(&a_bytes).expect("just encoded"));
    prop_assert!(a == b || !b_bytes.starts_with(&a_bytes), "one key is the beginning of another");
    Ok(())
}

/// Strings in which zero bytes, high bytes and common beginnings are frequent.
fn awkward() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof![Just('\0'), Just('\u{1}'), Just('a'), Just('ÿ'), any::<char>()], 0..6)
        .prop_map(|chars| chars.into_iter().collect())
}

fn awkward_bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![Just(0), Just(1), Just(0xfe), Just(0xff), any::<u8>()], 0..6)
}

proptest! {
    #[test]
    fn integers_sort_as_numbers(a: (u8, u16, u32, u64, i64), b: (u8, u16, u32, u64, i64)) {
        check(&a, &b)?;
    }

    #[test]
    fn strings_sort_as_strings(a in awkward(), b in awkward()) {
        check(&a, &b)?;
    }

    #[test]
    fn tuples_sort_by_their_parts(
        a in (awkward(), awkward_bytes(), any::<bool>(), -2i64..2),
        b in (awkward(), awkward_bytes(), any::<bool>(), -2i64..2),
    ) {
        check(&a, &b)?;
    }

    #[test]
    fn arrays_inside_tuples_need_no_end(a: ([u8; 3], u8), b: ([u8; 3], u8)) {
        check(&a, &b)?;
    }

    #[test]
    fn a_prefix_begins_exactly_the_keys_with_those_parts(a in awkward(), b in awkward(), rest in any::<u64>()) {
        let mut prefix = Vec::new();
        PrefixOf::<(String, u64)>::encode_prefix(&(a.as_str(),), &mut prefix);
        prop_assert_eq!(encoded::<(String, u64)>(&(b.as_str(), rest)).starts_with(&prefix), a == b);
    }

    #[test]
    fn begins_names_exactly_the_strings_that_begin_so(a in awkward(), b in awkward(), rest in any::<u64>()) {
        let mut prefix = Vec::new();
        PrefixOf::<(String, u64)>::encode_prefix(&(Begins(&a),), &mut prefix);
        prop_assert_eq!(encoded::<(String, u64)>(&(b.as_str(), rest)).starts_with(&prefix), b.starts_with(&a));
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>) {
        let _ = decode_all::<(String, u64, bool)>(&bytes);
        let _ = decode_all::<(Vec<u8>, i64, [u8; 4])>(&bytes);
    }
}

#[test]
fn borrowed_forms_encode_to_the_same_bytes() {
    let owned = encoded::<(String, Vec<u8>, u64)>(&("anna".to_owned(), b"x\0y".to_vec(), 7));
    assert_eq!(owned, encoded::<(String, Vec<u8>, u64)>(&("anna", b"x\0y".as_slice(), 7)));
    assert_eq!(owned, b"anna\0\0x\0\xffy\0\0\0\0\0\0\0\0\0\x07");
}

#[test]
fn left_over_bytes_are_refused() {
    assert_eq!(decode_all::<u16>(&[0, 1, 2]), Err(KeyError::Long(1)));
    assert_eq!(decode_all::<u16>(&[0]), Err(KeyError::Short));
    assert_eq!(decode_all::<bool>(&[2]), Err(KeyError::Value));
}
