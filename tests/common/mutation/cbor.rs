//! The CBOR of a header as a tree, to be changed where it means something: numbers to their edges, entries doubled and exchanged.

use super::bytes::edit;
use crate::common::Noise;

/// A CBOR item of definite length.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    Unsigned(u64),
    /// −1 − the number.
    Negative(u64),
    Bytes(Vec<u8>),
    Text(Vec<u8>),
    List(Vec<Item>),
    Map(Vec<(Item, Item)>),
    /// The bits of a float32.
    Float(u32),
}

const DEPTH_MAX: usize = 8;

impl Item {
    /// The one item of these bytes; `None` if they are anything else.
    pub fn parse(bytes: &[u8]) -> Option<Item> {
        let mut rest = bytes;
        let item = Self::read(&mut rest, 0)?;
        rest.is_empty().then_some(item)
    }

    fn read(rest: &mut &[u8], depth: usize) -> Option<Item> {
        let (&first, after) = rest.split_first()?;
        *rest = after;
        let (major, short) = (first >> 5, first & 31);
        let argument = match short {
            0..24 => u64::from(short),
            24..28 => {
                let (bytes, after) = rest.split_at_checked(1 << (short - 24))?;
                *rest = after;
                bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
            }
            _ => return None,
        };
        let len = usize::try_from(argument).ok().filter(|&len| depth < DEPTH_MAX && len <= rest.len());
        Some(match major {
            0 => Item::Unsigned(argument),
            1 => Item::Negative(argument),
            2 | 3 => {
                let (bytes, after) = rest.split_at(len?);
                *rest = after;
                if major == 2 { Item::Bytes(bytes.to_vec()) } else { Item::Text(bytes.to_vec()) }
            }
            4 => Item::List((0..len?).map(|_| Self::read(rest, depth + 1)).collect::<Option<_>>()?),
            5 => {
                let mut entry = || Some((Self::read(rest, depth + 1)?, Self::read(rest, depth + 1)?));
                Item::Map((0..len?).map(|_| entry()).collect::<Option<_>>()?)
            }
            7 if short == 26 => Item::Float(argument as u32),
            _ => return None,
        })
    }

    /// The item as bytes, every length in its shortest form.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut head = |major: u8, argument: u64| {
            let byte_len = [1 << 8, 1 << 16, 1 << 32].iter().position(|&end| argument < end).unwrap_or(3);
            if argument < 24 {
                out.push(major << 5 | argument as u8);
            } else {
                out.push(major << 5 | (24 + byte_len as u8));
                out.extend(&argument.to_be_bytes()[8 - (1 << byte_len)..]);
            }
        };
        match self {
            Item::Unsigned(number) => head(0, *number),
            Item::Negative(number) => head(1, *number),
            Item::Bytes(bytes) => {
                head(2, bytes.len() as u64);
                out.extend(bytes);
            }
            Item::Text(bytes) => {
                head(3, bytes.len() as u64);
                out.extend(bytes);
            }
            Item::List(items) => {
                head(4, items.len() as u64);
                items.iter().for_each(|item| item.write(out));
            }
            Item::Map(entries) => {
                head(5, entries.len() as u64);
                entries.iter().flat_map(|(key, value)| [key, value]).for_each(|item| item.write(out));
            }
            Item::Float(bits) => {
                out.push(7 << 5 | 26);
                out.extend(bits.to_be_bytes());
            }
        }
    }

    /// The value of a key of a map.
    pub fn get_mut(&mut self, key: u64) -> Option<&mut Item> {
        let Item::Map(entries) = self else { return None };
        entries.iter_mut().find(|(found, _)| *found == Item::Unsigned(key)).map(|(_, value)| value)
    }

    fn children(&mut self) -> Vec<&mut Item> {
        match self {
            Item::List(items) => items.iter_mut().collect(),
            Item::Map(entries) => entries.iter_mut().map(|(_, value)| value).collect(),
            _ => Vec::new(),
        }
    }

    /// Some item inside, or this one: the deeper levels are as likely as the upper ones, however many entries they have.
    fn some(&mut self, random: &mut Noise) -> &mut Item {
        let child_len = self.children().len();
        if child_len == 0 || random.below(8) == 0 {
            return self;
        }
        let place = random.below(child_len);
        self.children().swap_remove(place).some(random)
    }

    /// Changes this tree in one place; parts may come from another.
    pub fn mutate(&mut self, donor: &mut Item, random: &mut Noise) {
        match random.below(10) {
            0 => *self.some(random) = donor.some(random).clone(),
            1 => {
                let other = self.some(random).clone();
                *self.some(random) = other;
            }
            _ => self.some(random).change(donor, random),
        }
    }

    fn change(&mut self, donor: &mut Item, random: &mut Noise) {
        match self {
            Item::Unsigned(number) | Item::Negative(number) => match random.below(8) {
                0 => *self = Item::Negative(edge(random)),
                1 => *self = Item::Unsigned(edge(random)),
                2 => *number = number.wrapping_add(1),
                3 => *number = number.wrapping_sub(1),
                4 => *number ^= 1 << random.below(64),
                5 => *number = number.wrapping_mul(2),
                6 => *number /= 2,
                _ => *number = random.below(20) as u64,
            },
            Item::Float(bits) => *bits = float_edge(*bits, random),
            Item::Bytes(bytes) => edit(bytes, &[], random),
            Item::Text(text) => change_text(text, random),
            Item::List(items) => change_list(items, donor.some(random).clone(), random),
            Item::Map(entries) => {
                let key = Item::Unsigned(random.below(18) as u64);
                change_list(entries, (key, donor.some(random).clone()), random);
            }
        }
    }
}

/// A number at which something changes, or beside one.
fn edge(random: &mut Noise) -> u64 {
    let power = 1u64 << random.below(64);
    match random.below(5) {
        0 => power,
        1 => power - 1,
        2 => power + 1,
        3 => u64::MAX - random.below(3) as u64,
        _ => random.below(300) as u64,
    }
}

fn float_edge(bits: u32, random: &mut Noise) -> u32 {
    let edges = [0.0, -0.0, 1.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE, f32::MAX, -1.0, 1e-45, 7.9e-31, 1.3e30];
    match random.below(3) {
        0 => edges[random.below(edges.len())].to_bits(),
        1 => bits ^ 1 << random.below(32),
        _ => (f32::from_bits(bits) * 2f32.powi(random.below(240) as i32 - 120)).to_bits(),
    }
}

fn change_text(text: &mut Vec<u8>, random: &mut Noise) {
    const TEXTS: [&[u8]; 9] = [b"", b".", b"../x", b"/", b"a//b", b"a\\b", b"\xc2\x85", b"\xff", b"CON"];
    match random.below(3) {
        0 => *text = TEXTS[random.below(TEXTS.len())].to_vec(),
        1 => *text = text.repeat(1 + random.below(40)),
        _ => edit(text, TEXTS[random.below(TEXTS.len())], random),
    }
}

fn change_list<T: Clone>(list: &mut Vec<T>, other: T, random: &mut Noise) {
    let [here, there] = [0; 2].map(|_| random.below(list.len().max(1)));
    match random.below(6) {
        _ if list.is_empty() => list.push(other),
        0 => drop(list.remove(here)),
        1 => list.swap(here, there),
        2 => list[here] = list[there].clone(),
        3 => list.insert(here, list[there].clone()),
        4 => list.truncate(here),
        _ => list.insert(here, other),
    }
}
