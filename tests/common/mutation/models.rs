//! Model files changed where their formats keep what matters: numbers in JSON and protobuf, with the lengths around them right.

use super::bytes::{edit, overwrite};
use crate::common::Noise;

/// What model files say, to be put where it does not belong.
const WORDS: [&[u8]; 8] =
    [b"F32", b"../up", b"\"data_offsets\":[0,4]", b"{", b"]", b"__metadata__", b"weightsManifest", b"\xef\xbb\xbf"];

/// Changes a model file, by what it looks like.
pub fn mutate_model(file: &[u8], random: &mut Noise) -> Vec<u8> {
    let mut file = file.to_vec();
    if random.below(4) == 0 {
        edit(&mut file, WORDS[random.below(WORDS.len())], random);
        return file;
    }
    let safetensors = file.get(8) == Some(&b'{');
    if safetensors || file.first() == Some(&b'{') {
        mutate_json(&mut file, safetensors, random);
    } else if file.starts_with(b"PK") || file.starts_with(b"GGUF") || file.first() == Some(&0x80) {
        overwrite(&mut file, random);
    } else if let Some(mut message) = Message::parse(&file, 0) {
        message.mutate(random);
        file = message.bytes();
    } else {
        edit(&mut file, WORDS[random.below(WORDS.len())], random);
    }
    file
}

/// Changes JSON, that of a safetensors file with its length.
fn mutate_json(file: &mut Vec<u8>, safetensors: bool, random: &mut Noise) {
    let start = if safetensors { 8 } else { 0 };
    let stored = file.first_chunk().map_or(0, |len| u64::from_le_bytes(*len));
    let end = if safetensors { (8 + stored as usize).min(file.len()) } else { file.len() };
    let mut json = file[start..end].to_vec();
    for _ in 0..=random.below(3) {
        match random.below(3) {
            0 => edit(&mut json, WORDS[random.below(WORDS.len())], random),
            _ => change_number(&mut json, random),
        }
    }
    let len = (json.len() as u64).to_le_bytes();
    let rest = file.split_off(end);
    *file = [if safetensors { &len[..] } else { &[] }, &json, &rest].concat();
}

fn change_number(json: &mut Vec<u8>, random: &mut Noise) {
    let starts: Vec<usize> =
        (1..json.len()).filter(|&at| json[at].is_ascii_digit() && !json[at - 1].is_ascii_digit()).collect();
    if starts.is_empty() {
        return;
    }
    let start = starts[random.below(starts.len())];
    let len = json[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = match random.below(5) {
        0 => "-1".to_owned(),
        1 => "1e400".to_owned(),
        2 => (1u64 << random.below(64)).to_string(),
        3 => u64::MAX.to_string(),
        _ => random.below(100).to_string(),
    };
    json.splice(start..start + len, number.into_bytes());
}

/// A protobuf message as a tree: any field that could be one is taken for a message.
struct Message(Vec<(u64, Value)>);

enum Value {
    Varint(u64),
    Bytes(Vec<u8>),
    Message(Message),
    Fixed(Vec<u8>),
}

const DEPTH_MAX: usize = 6;

impl Message {
    fn parse(mut bytes: &[u8], depth: usize) -> Option<Message> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes)?;
            let value = match key & 7 {
                0 => Value::Varint(varint(&mut bytes)?),
                2 => {
                    let len = usize::try_from(varint(&mut bytes)?).ok()?;
                    let content = take(&mut bytes, len)?;
                    let message = (depth < DEPTH_MAX && len > 0).then(|| Message::parse(content, depth + 1)).flatten();
                    message.map_or_else(|| Value::Bytes(content.to_vec()), Value::Message)
                }
                1 => Value::Fixed(take(&mut bytes, 8)?.to_vec()),
                5 => Value::Fixed(take(&mut bytes, 4)?.to_vec()),
                _ => return None,
            };
            fields.push((key, value));
        }
        Some(Message(fields))
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (key, value) in &self.0 {
            write_varint(*key, &mut out);
            let content = match value {
                Value::Varint(number) => {
                    write_varint(*number, &mut out);
                    continue;
                }
                Value::Fixed(bytes) => {
                    out.extend(bytes);
                    continue;
                }
                Value::Bytes(bytes) => bytes.clone(),
                Value::Message(message) => message.bytes(),
            };
            write_varint(content.len() as u64, &mut out);
            out.extend(content);
        }
        out
    }

    fn mutate(&mut self, random: &mut Noise) {
        if self.0.is_empty() {
            return;
        }
        let place = random.below(self.0.len());
        let (key, value) = &mut self.0[place];
        match (random.below(8), value) {
            (0, _) => drop(self.0.remove(place)),
            (1, _) => *key = (*key & 7) | (random.below(22) as u64) << 3,
            (2, _) => {
                let there = random.below(self.0.len());
                self.0.swap(place, there);
            }
            (_, Value::Message(message)) => message.mutate(random),
            (_, Value::Varint(number)) => {
                let edges = [
                    0,
                    1,
                    1 << 31,
                    1 << 32,
                    1 << 62,
                    1 << 63,
                    u64::MAX,
                    number.wrapping_add(1),
                    random.below(50) as u64,
                ];
                *number = edges[random.below(edges.len())];
            }
            (_, Value::Bytes(bytes)) => edit(bytes, WORDS[random.below(WORDS.len())], random),
            (_, Value::Fixed(bytes)) => overwrite(bytes, random),
        }
    }
}

fn take<'b>(bytes: &mut &'b [u8], len: usize) -> Option<&'b [u8]> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        number |= u64::from(byte & 127).wrapping_shl(shift);
        if byte < 128 {
            return Some(number);
        }
    }
    None
}

fn write_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 128 {
        out.push(number as u8 | 128);
        number >>= 7;
    }
    out.push(number as u8);
}
