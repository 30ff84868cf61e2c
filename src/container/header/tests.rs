use super::*;

/// Every key, each with a value of its own.
fn full() -> Header {
    let frame = FrameEntry {
        coding: 1,
        first_chunk: 2,
        chunk_len: 256,
        matrix: Some(vec![1, 2, 3]),
        tables: Some(vec![4, 5]),
        scale: Some(-0.5),
        zero_point: Some(-7),
        low_bits: Some(6),
        side: Some(32),
        reference: Some(vec![1, 8]),
        gain: Some(-256),
        quantizer: Some(9),
        transform: Some(10),
        layout: Some(11),
        record: Some(vec![2, 16]),
    };
    let tensor =
        TensorEntry { name: "é".into(), dtype: 2, shape: vec![], file: 3, offset: 1 << 40, frames: Some(vec![0]) };
    Header {
        files: vec![FileEntry { name: "f".into(), bytes: u64::MAX, first_raw_chunk: 9 }],
        tensors: vec![tensor.clone(), TensorEntry { frames: None, ..tensor }],
        frames: vec![frame, FrameEntry::default()],
        tables: vec![1, 2],
        chunks: vec![3],
        base: Some(vec![7; 16]),
        metadata: Some(vec![("a".to_string(), "b".to_string())]),
    }
}

/// [`full`] after FORMAT.md, section 4, one key in each line.
const FULL: &str = "
    a7
    00 81 a3
        00 61 66
        01 1b ff ff ff ff ff ff ff ff
        02 09
    01 82 a6
        00 62 c3 a9
        01 02
        02 80
        03 03
        04 1b 00 00 01 00 00 00 00 00
        05 81 00
    a5
        00 62 c3 a9
        01 02
        02 80
        03 03
        04 1b 00 00 01 00 00 00 00 00
    02 82 af
        00 01
        01 02
        02 19 01 00
        03 83 01 02 03
        04 82 04 05
        05 fa bf 00 00 00
        06 26
        07 06
        08 18 20
        09 82 01 08
        0a 38 ff
        0b 09
        0c 0a
        0d 0b
        0e 82 02 10
    a3
        00 00
        01 00
        02 00
    03 42 01 02
    04 41 03
    05 50 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07
    06 a1 61 61 61 62";

#[test]
fn serializes_to_the_format_pages_keys() {
    let bytes = FULL.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap());
    assert_eq!(full().serialize().unwrap(), bytes.collect::<Vec<u8>>());
}

#[test]
fn parse_inverts_serialize() {
    for header in [full(), Header::default()] {
        assert_eq!(Header::parse(&header.serialize().unwrap(), &Limits::default()).unwrap(), header);
    }
}

#[test]
fn refuses_other_shapes() {
    let whole = full().serialize().unwrap();
    for len in 0..whole.len() {
        assert!(Header::parse(&whole[..len], &Limits::default()).is_err(), "{len}");
    }
    let cases: [(&[u8], &str); 6] = [
        (&[0xa0], "key 0 is missing"),
        (&[0xbf, 0xff], "indefinite"),
        (&[0xa1, 0x01, 0x80], "key 0 is missing"),
        (&[0xa5, 0x00, 0x80, 0x01, 0x80, 0x02, 0x80, 0x03, 0x40, 0x04, 0x61, 0x61], "not the CBOR"),
        (&[0xa6, 0x00, 0x80, 0x01, 0x80, 0x02, 0x80, 0x03, 0x40, 0x04, 0x40, 0x07, 0x00], "does not know"),
        (&[0xa5, 0x00, 0x80, 0x01, 0x80, 0x02, 0x80, 0x03, 0x40, 0x04, 0x40, 0x00], "bytes follow"),
    ];
    for (bytes, expected) in cases {
        let error = Header::parse(bytes, &Limits::default()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
