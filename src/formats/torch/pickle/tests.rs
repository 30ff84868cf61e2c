//! Pickles byte by byte, and what comes of them.

use super::*;

fn text(text: &str) -> Vec<u8> {
    [&[b'X', text.len() as u8, 0, 0, 0], text.as_bytes()].concat()
}

fn tuple(items: &[u8]) -> Vec<u8> {
    [b"(".to_vec(), items.iter().flat_map(|&i| [b'K', i]).collect(), b"t".to_vec()].concat()
}

/// What builds a tensor of the storage `0`, which has six elements. `view` is what more its id holds.
pub fn tensor(shape: &[u8], strides: &[u8], offset: u8, view: &[u8]) -> Vec<u8> {
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        text("0"),
        text("cpu"),
        b"K\x06".to_vec(),
        view.to_vec(),
        b"tQK".to_vec(),
        vec![offset],
        tuple(shape),
        tuple(strides),
        b"\x89ccollections\nOrderedDict\n)RtR".to_vec(),
    ]
    .concat()
}

/// The pickle of `{"w": tensor}` with these shape, strides and offset.
pub fn pickle(shape: &[u8], strides: &[u8], offset: u8) -> Vec<u8> {
    let tensor = tensor(shape, strides, offset, &[]);
    [b"\x80\x02}q\x00(".to_vec(), text("w"), tensor, b"u.".to_vec()].concat()
}

/// A file from before zips with `{"w": tensor}`: of six floats, or of a view of its storage from this element on.
pub fn legacy(view: Option<u8>) -> Vec<u8> {
    let view_id =
        view.map_or(b"N".to_vec(), |first| [b"(".to_vec(), text("1"), vec![b'K', first, b'K', 6, b't']].concat());
    let value = [b"\x80\x02}q\x00(".to_vec(), text("w"), tensor(&[2, 3], &[3, 1], 0, &view_id), b"u.".to_vec()];
    [
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.".to_vec(),
        [b"\x80\x02}".to_vec(), text("little_endian"), b"\x88s.".to_vec()].concat(),
        value.concat(),
        [b"\x80\x02](".to_vec(), text("0"), b"e.".to_vec()].concat(),
        6u64.to_le_bytes().to_vec(),
        (0..6).flat_map(|value| f32::to_le_bytes(value as f32)).collect(),
    ]
    .concat()
}

fn names(pickle: &[Vec<u8>]) -> Vec<Option<String>> {
    run(&pickle.concat()).unwrap().tensors.into_iter().map(|tensor| tensor.name).collect()
}

fn named(name: &str) -> Vec<u8> {
    [text(name), tensor(&[6], &[1], 0, &[])].concat()
}

#[test]
fn tensors_of_objects_are_called_by_their_paths() {
    // {"epoch": 3, "model": module with a weight, a list of modules and a tuple}
    let object = b"c__torch__\nNet\n)\x81}(".to_vec();
    let end = b"ub".to_vec();
    let inner = [object.clone(), named("bias"), end.clone()].concat();
    let list = [text("blocks"), b"](".to_vec(), inner.clone(), inner, b"e".to_vec()].concat();
    let pair = [text("pair"), tensor(&[6], &[1], 0, &[]), b"N\x86".to_vec()].concat();
    let module = [object, named("weight"), list, pair, end].concat();
    let pickle = [b"}(".to_vec(), text("epoch"), b"K\x03".to_vec(), text("model"), module, b"u.".to_vec()];
    let expected = ["weight", "blocks.0.bias", "blocks.1.bias", "pair.0"].map(|name| Some(name.to_owned()));
    assert_eq!(names(&pickle), expected);
}

#[test]
fn modules_keep_tensors_in_dictionaries_of_their_own() {
    let object = b"ctorch.nn\nModule\n)\x81}(".to_vec();
    let of = |member: &str, items: Vec<u8>| {
        [text(member), b"ccollections\nOrderedDict\n)R(".to_vec(), items, b"u".to_vec()].concat()
    };
    let layer = [object.clone(), of("_parameters", named("weight")), of("_buffers", named("mean")), b"ub".to_vec()];
    let module = [object, of("_modules", [text("conv"), layer.concat()].concat()), b"ub.".to_vec()];
    assert_eq!(names(&module), ["conv.weight", "conv.mean"].map(|name| Some(name.to_owned())));
}

#[test]
fn what_is_not_in_an_object_is_called_by_its_key() {
    let inner = [b"}(".to_vec(), named("layer.w"), b"u".to_vec()].concat();
    let list = [text("list"), b"]".to_vec(), tensor(&[6], &[1], 0, &[]), b"a".to_vec()].concat();
    let pickle = [b"}(".to_vec(), text("state"), inner, list, b"u.".to_vec()];
    assert_eq!(names(&pickle), [Some("layer.w".to_owned()), None]);
    let alone = [tensor(&[6], &[1], 0, &[]), b".".to_vec()];
    assert_eq!(names(&alone), [None]);
}

#[test]
fn texts_of_python_2_are_texts() {
    let name = b"U\x05layer".to_vec();
    let pickle = [b"}".to_vec(), name, tensor(&[6], &[1], 0, &[]), b"s.".to_vec()];
    assert_eq!(names(&pickle), [Some("layer".to_owned())]);
}

#[test]
fn names_and_shapes_that_are_repeated_take_no_more_memory_than_the_pickle() {
    let wide = [b"(".to_vec(), b"K\x01".repeat(1000), b"tq\x01".to_vec()].concat();
    let many = [b"]".to_vec(), wide, b"0(".to_vec(), b"h\x01h\x01\x86".repeat(1000), b"e.".to_vec()];
    assert_eq!(names(&many), []);
    // A tuple of a tuple of …, each of the same ten.
    let bomb = [b")".to_vec(), b"q\x01(h\x01h\x01h\x01h\x01h\x01h\x01h\x01h\x01h\x01h\x01t".repeat(8), b".".to_vec()];
    assert_eq!(names(&bomb), []);
    let long =
        [b"}X".to_vec(), 2000u32.to_le_bytes().to_vec(), vec![b'x'; 2000], tensor(&[6], &[1], 0, &[]), b"s.".to_vec()];
    assert_eq!(names(&long), [None]);
    let axes = [tensor(&[1; 65], &[1; 65], 0, &[]), b".".to_vec()];
    assert_eq!(names(&axes), []);
}

#[test]
fn cycles_and_depth_come_to_an_end() {
    let cycle = [b"}q\x01".to_vec(), text("me"), b"h\x01s.".to_vec()];
    assert_eq!(names(&cycle), []);
    let deep = [b"]".repeat(100_000), tensor(&[6], &[1], 0, &[]), b"a".repeat(100_000), b".".to_vec()];
    assert_eq!(names(&deep), [None]);
}

#[test]
fn damaged_pickles_have_no_tensors() {
    let whole = pickle(&[2, 3], &[3, 1], 0);
    for len in 0..whole.len() {
        assert_eq!(run(&whole[..len]), None);
    }
    for index in 0..whole.len() {
        for value in 0..=255 {
            let mut changed = whole.clone();
            changed[index] = value;
            let _ = run(&changed);
        }
    }
}

#[test]
fn deep_tuples_do_not_exhaust_the_stack() {
    let deep = [b")".to_vec(), vec![0x85; 1_000_000], b".".to_vec()].concat();
    assert_eq!(run(&deep).unwrap().tensors, []);
}
