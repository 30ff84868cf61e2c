use super::super::{SourceFile, companions, find_tensors};
use super::*;
use crate::tensor::Shape;

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn delimited(number: u64, content: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn integer(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

fn model_of(graph: &[u8]) -> Vec<u8> {
    [integer(1, 10), delimited(7, graph)].concat()
}

fn model(tensors: &[Vec<u8>]) -> Vec<u8> {
    model_of(&tensors.iter().flat_map(|tensor| delimited(5, tensor)).collect::<Vec<u8>>())
}

/// An f32 tensor named `w` with these dimensions and further fields.
fn tensor(dims: &[u64], fields: &[Vec<u8>]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|&dim| integer(1, dim)).collect();
    [dims, integer(2, 1), delimited(8, b"w"), fields.concat()].concat()
}

fn external(entries: &[(&str, &str)]) -> Vec<u8> {
    let entry = |(key, value): &(&str, &str)| {
        delimited(13, &[delimited(1, key.as_bytes()), delimited(2, value.as_bytes())].concat())
    };
    [entries.iter().flat_map(entry).collect(), integer(14, 1)].concat()
}

fn find(bytes: &[u8]) -> Result<Vec<crate::tensor::TensorLocation>> {
    let data = SourceFile { name: "data".to_owned(), source: &vec![0; 20] };
    find_tensors(&[SourceFile { name: "m.onnx".to_owned(), source: &bytes }, data])
}

fn reason(tensor: Vec<u8>) -> String {
    find(&model(&[tensor])).unwrap_err().to_string()
}

#[test]
fn data_must_be_as_long_as_the_shape_demands() {
    let raw = |dims: &[u64], len| tensor(dims, &[delimited(9, &vec![0; len])]);
    assert_eq!(find(&model(&[raw(&[2, 3], 24)])).unwrap().len(), 1);
    let expected = "invalid onnx: m.onnx: tensor \"w\": 23 bytes of data where f32 [2, 3] takes 24";
    assert_eq!(reason(raw(&[2, 3], 23)), expected);
    assert!(reason(raw(&[], 0)).contains("0 bytes of data where f32 [] takes 4"));
    assert!(reason(tensor(&[2], &[delimited(4, &[0; 4])])).contains("4 bytes of data"));
    assert!(reason(raw(&[u64::MAX], 4)).contains("negative extent"));
    assert!(reason(raw(&[1 << 40, 1 << 40], 4)).contains("impossible shape"));
    assert!(reason(raw(&[1; 65], 4)).contains("more than 64 axes"));
    assert!(reason(raw(&[1; 10_000], 4)).contains("more than 64 axes"));
}

#[test]
fn reads_packed_dims() {
    let dims = delimited(1, &[varint(300), varint(2)].concat());
    let bytes = model(&[tensor(&[], &[dims, delimited(9, &[0; 2400])])]);
    assert_eq!(find(&bytes).unwrap()[0].shape, Shape(vec![300, 2]));
}

#[test]
fn leaves_out_what_is_not_consecutive() {
    let floats = || delimited(4, &[0; 4]);
    let left_out = [
        tensor(&[2], &[floats(), floats()]),
        tensor(&[2], &[floats(), delimited(3, &[])]),
        tensor(&[2], &[integer(7, 1), integer(7, 2)]),
        tensor(&[2], &[]),
        // float_data of a complex tensor, double_data of a float tensor
        [tensor(&[1], &[delimited(4, &[0; 8])]), integer(2, 14)].concat(),
        tensor(&[1], &[delimited(10, &[0; 8])]),
    ];
    assert_eq!(find(&model(&left_out)).unwrap(), []);
}

#[test]
fn external_data_must_lie_within_its_file() {
    let with = |entries: &[(&str, &str)]| {
        let entries = [&[("location", "data")], entries].concat();
        find(&model(&[tensor(&[2], &[external(&entries)])]))
    };
    for (entries, offset) in [
        (vec![], 0),
        (vec![("offset", "12")], 12),
        (vec![("length", "8"), ("offset", "3")], 3),
        (vec![("checksum", "x"), ("basepath", "y")], 0),
    ] {
        let found = with(&entries).unwrap();
        assert_eq!((found[0].file, found[0].offset, found[0].bytes), (1, offset, 8), "{entries:?}");
    }
    for (entries, why) in [
        (vec![("offset", "13")], "8 bytes at 13 exceed the 20 bytes of \"data\""),
        (vec![("offset", "18446744073709551615")], "exceed the 20 bytes"),
        (vec![("length", "9")], "9 bytes of external data where 8 were due"),
        (vec![("length", "")], "length \"\" is no number"),
        (vec![("offset", "-1")], "offset \"-1\" is no number"),
        (vec![("offset", "99999999999999999999")], "is no number"),
    ] {
        let error = with(&entries).unwrap_err().to_string();
        assert!(error.starts_with("invalid onnx: m.onnx: tensor \"w\": ") && error.contains(why), "{error}");
    }
}

#[test]
fn external_locations_must_be_paths_below_the_folder() {
    for location in ["../x", "/etc/passwd", "a/../../x", "c:\\x", "\\\\host\\x", "", "m.onnx", "./m.onnx", "\0"] {
        let bytes = model(&[tensor(&[2], &[external(&[("location", location)])])]);
        for result in [companions("m.onnx", &bytes).map(drop), find(&bytes).map(drop)] {
            assert!(matches!(result, Err(Error::Invalid { field: "onnx", .. })), "{location:?}");
        }
    }
    assert!(reason(tensor(&[2], &[external(&[])])).contains("without a location"));
}

#[test]
fn external_data_in_another_model_is_refused() {
    let bytes = model(&[tensor(&[2], &[external(&[("location", "other.onnx")])])]);
    let other = model(&[]);
    let files = [("m.onnx", &bytes), ("other.onnx", &other)];
    let files = files.map(|(name, source)| SourceFile { name: name.to_owned(), source });
    assert!(find_tensors(&files).unwrap_err().to_string().contains("\"other.onnx\" is a model"));
}

#[test]
fn external_entries_without_an_external_location_mean_nothing() {
    let entries = delimited(13, &[delimited(1, b"location"), delimited(2, b"../x")].concat());
    let bytes = model(&[tensor(&[1], &[entries, delimited(9, &[0; 4])])]);
    assert_eq!(companions("m.onnx", &bytes).unwrap(), [""; 0]);
    assert_eq!(find(&bytes).unwrap()[0].file, 0);
}

/// A graph with `depth` graphs inside one another below it, the innermost with one tensor.
fn nested(depth: u64) -> Vec<u8> {
    let mut graph = delimited(5, &tensor(&[], &[delimited(9, &[0; 4])]));
    for _ in 0..depth {
        graph = delimited(1, &delimited(5, &delimited(6, &graph)));
    }
    model_of(&graph)
}

#[test]
fn bounds_the_nesting_of_graphs() {
    assert_eq!(find(&nested(MAX_GRAPH_DEPTH)).unwrap().len(), 1);
    for depth in [MAX_GRAPH_DEPTH + 1, 2000] {
        let bytes = nested(depth);
        for error in [find(&bytes).unwrap_err(), companions("m.onnx", &bytes).unwrap_err()] {
            assert!(error.to_string().contains("(m.onnx)"), "{error}");
            assert!(matches!(error, Error::LimitExceeded { value: 33, limit: 32, .. }));
        }
    }
}

#[test]
fn reads_nodes_with_what_their_subgraphs_mention() {
    let text = |number, text: &str| delimited(number, text.as_bytes());
    let shape = tensor(&[2], &[integer(2, 7), delimited(7, &[varint(3), varint(u64::MAX)].concat())]);
    let constant =
        [text(4, "Constant"), text(2, "shape"), delimited(5, &[text(1, "value"), delimited(5, &shape)].concat())];
    let perm = delimited(5, &[text(1, "perm"), integer(8, 1), integer(8, 0), integer(20, 7)].concat());
    let transpose = [text(4, "Transpose"), text(1, "w"), text(2, "t"), perm];
    let inner = delimited(1, &[text(4, "Add"), text(1, "t"), text(1, "w")].concat());
    let branch = delimited(5, &[text(1, "then_branch"), delimited(6, &inner)].concat());
    let condition = [text(4, "If"), text(1, "c"), text(2, "y"), branch];
    let custom = [text(4, "Odd"), text(7, "com.example"), text(1, ""), text(2, "z")];
    let dims = delimited(2, &[delimited(1, &integer(1, 3)), delimited(1, &text(2, "n"))].concat());
    let info = [text(1, "y"), delimited(2, &delimited(1, &dims))].concat();
    let nodes = [constant.concat(), transpose.concat(), condition.concat(), custom.concat()];
    let graph = [
        nodes.iter().flat_map(|node| delimited(1, node)).collect(),
        delimited(5, &tensor(&[1, 2], &[delimited(9, &[0, 0, 128, 63, 0, 0, 0, 64])])),
        delimited(12, &info),
    ];
    let bytes = [model_of(&graph.concat()), delimited(8, &integer(2, 17))].concat();
    let read = super::super::graph(&[SourceFile { name: "m.onnx".to_owned(), source: &bytes }], 0).unwrap();
    let of = |node: &graph::Node| (node.op.clone(), node.inputs.clone(), node.outputs.clone());
    let named = |op: &str, inputs: &[&str], output: &str| {
        (op.to_owned(), inputs.iter().map(|&name| name.to_owned()).collect(), vec![output.to_owned()])
    };
    let expected =
        [named("Transpose", &["w"], "t"), named("If", &["c", "t", "w"], "y"), named("com.example.Odd", &[""], "z")];
    assert_eq!(read.nodes.iter().map(of).collect::<Vec<_>>(), expected);
    assert!(matches!(&read.nodes[0].attributes["perm"], graph::Attribute::Integers(perm) if perm == &[1, 0]));
    assert_eq!(read.constants["shape"].values, Some(vec![3.0, -1.0]));
    assert_eq!(read.constants["w"].values, Some(vec![1.0, 2.0]));
    let (file, offset, len) = read.constants["w"].location.unwrap();
    assert_eq!((file, &bytes[offset as usize..][..len as usize]), (0, &[0, 0, 128, 63, 0, 0, 0, 64][..]));
    assert_eq!((read.outputs, read.ranks["y"], read.opset), (vec!["y".to_owned()], 2, 17));
}

#[test]
fn one_output_name_is_not_given_to_many_tensors() {
    let unnamed = [integer(2, 2), integer(1, 1), delimited(9, &[7])].concat();
    let attribute = delimited(5, &[delimited(10, &unnamed), delimited(10, &unnamed), delimited(10, &unnamed)].concat());
    // The attribute comes before the output that names it.
    let node = [attribute, delimited(2, b"out"), delimited(2, b"second")].concat();
    let names: Vec<_> = find(&model_of(&delimited(1, &node))).unwrap().into_iter().map(|t| t.name).collect();
    assert_eq!(names, ["out", "unnamed", "unnamed#2"]);
}

#[test]
fn names_the_file_that_is_not_a_model() {
    let no_graph = integer(1, 10);
    let others: [&[u8]; 4] = [b"", b"\xff\xd8\xff\xe0", b"PK\x03\x04", &no_graph];
    for bytes in others {
        for result in [companions("a/m.onnx", &bytes).map(drop), find(bytes).map(drop)] {
            let error = result.unwrap_err();
            assert!(matches!(error, Error::Invalid { field: "onnx", .. }), "{error}");
            assert!(error.to_string().contains("m.onnx: "), "{error}");
        }
    }
}
