//! What the command prints.

use mcwc::encode::{Options, encode_to_vec};
use mcwc::formats::SourceFile;

use super::*;

const HOSTILE: &str = "w\u{1b}[31m\u{9b}2J\u{202e}\r\n\t\u{7f}";

fn assert_printable(text: &str) {
    let is_command =
        |c: char| c != '\n' && c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    assert!(!text.contains(is_command), "{text:?}");
}

/// A safetensors file of a matrix and a vector.
fn named(name: &str) -> Vec<u8> {
    safetensors(&[
        Tensor::floats(&format!("{name}matrix"), DType::F32, &[64, 64], &Noise(3).normals(4096, 0.1)),
        Tensor::floats(&format!("{name}vector"), DType::F32, &[4], &[1.0; 4]),
    ])
}

#[test]
fn names_do_not_command_the_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let file = named(HOSTILE);
    let name = "m\u{202e}.safetensors";
    let files = [SourceFile { name: name.into(), source: &file }];
    let (archive, _) = encode_to_vec(&files, None, &Options::default()).unwrap();
    std::fs::write(path.join("m.mcwc"), archive).unwrap();
    std::fs::write(path.join(name), &file).unwrap();
    let shown = "w\\u{1b}[31m\\u{9b}2J\\u{202e}\\r\\n\\t\\u{7f}matrix";
    for arguments in [vec!["inspect", "m.mcwc"], vec!["compare", name, "m.mcwc"]] {
        let text = ok(path, &arguments);
        assert_printable(&text);
        assert!(text.contains(shown), "{text}");
    }
    for arguments in [vec!["encode", name], vec!["decode", "m.mcwc", "-o", "out"]] {
        let text = ok(path, &arguments);
        assert_printable(&text);
        assert!(text.contains("m\\u{202e}.safetensors"), "{text}");
    }
    for arguments in
        [vec!["encode", HOSTILE], vec!["encode", name], vec!["verify", name], vec!["decode", HOSTILE, "-o", "x"]]
    {
        let (status, message) = failure(path, &arguments);
        assert_eq!((status, message.lines().count()), (1, 1), "{message}");
        assert_printable(&message);
    }
    let text = ok(path, &["inspect", "m.mcwc", "--json"]);
    assert_printable(&text);
    let inspected: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(inspected["tensors"][0]["name"], format!("{HOSTILE}matrix"));
    assert_eq!(inspected["files"][0]["name"], name);
}

/// The bits for each weight that the report names.
fn bits_line(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.contains("bits for each"))?;
    line.split(' ').next()?.parse().ok()
}

#[test]
fn bits_are_counted_of_what_is_coded_with_loss() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut random = Noise(4);
    let floats = Tensor::floats("floats", DType::F32, &[64, 64], &random.normals(4096, 0.1));
    let integers = Tensor::bytes("integers", DType::I8, &[256, 256], random.bytes(65536));
    std::fs::write(path.join("both.safetensors"), safetensors(&[floats, integers])).unwrap();
    let integers = Tensor::bytes("integers", DType::I8, &[256, 256], random.bytes(65536));
    std::fs::write(path.join("integers.safetensors"), safetensors(&[integers])).unwrap();
    let bits = bits_line(&ok(path, &["encode", "both.safetensors", "--bits", "5"])).unwrap();
    assert!((3.0..=5.0).contains(&bits), "{bits}");
    assert_eq!(bits_line(&ok(path, &["encode", "integers.safetensors"])), None);
}

#[test]
fn a_size_that_is_too_small_is_answered_with_the_least_that_works() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::write(path.join("model.safetensors"), named("w.")).unwrap();
    let vectors =
        (0..4).map(|index| Tensor::floats(&format!("v{index}"), DType::F32, &[999], &Noise(index).normals(999, 1.0)));
    std::fs::write(path.join("vectors.safetensors"), safetensors(&vectors.collect::<Vec<_>>())).unwrap();
    for input in ["model.safetensors", "vectors.safetensors"] {
        let encode = |size: u64| mcwc(path, &["encode", input, "-o", "x.mcwc", "--force", "--size", &size.to_string()]);
        let message = String::from_utf8(encode(100).stderr).unwrap();
        let least: u64 = message.trim().rsplit(' ').next().unwrap().parse().unwrap();
        assert!(message.contains("100 bytes are too few"), "{message}");
        assert!(encode(least).status.success(), "{input}: {least}");
        assert!(std::fs::metadata(path.join("x.mcwc")).unwrap().len() <= least);
        assert!(!encode(least - 1).status.success(), "{input}: {least}");
    }
    ok(path, &["encode", "model.safetensors", "-o", "x.mcwc", "--force", "--size", "10000000000GB"]);
}

#[test]
fn a_small_size_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::write(path.join("model.safetensors"), named("")).unwrap();
    for size in [1500u64, 3000, 6000] {
        let encode = ["encode", "model.safetensors", "-o", "x.mcwc", "--force", "--json", "--size", &size.to_string()];
        let bytes = json(path, &encode)["archive_bytes"].as_u64().unwrap();
        assert!(bytes <= size && 10 * bytes > 9 * size, "{bytes} of {size}");
    }
}
