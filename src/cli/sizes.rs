//! Numbers of bytes as people read and write them.

/// 12345678 as "12.35 MB".
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let power = (0..UNITS.len() - 1).take_while(|&power| bytes as f64 >= 1000f64.powi(power as i32 + 1)).count();
    let value = bytes as f64 / 1000f64.powi(power as i32);
    if power == 0 { format!("{bytes} B") } else { format!("{value:.2} {}", UNITS[power]) }
}

/// "12MB", "1.5 MiB" or "4096" as bytes.
pub fn parse_bytes(text: &str) -> std::result::Result<u64, String> {
    let number_len = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_len);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        other => return Err(format!("unknown unit {other:?}; use B, kB, MB, GB, KiB, MiB or GiB")),
    };
    let value: f64 = number.parse().map_err(|_| format!("{text:?} is not a size such as 12MB"))?;
    Ok((value * factor) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        assert_eq!(parse_bytes("12MB"), Ok(12_000_000));
        assert_eq!(parse_bytes("1.5 MiB"), Ok(1_572_864));
        assert_eq!(parse_bytes("4096"), Ok(4096));
        assert!(parse_bytes("many").is_err() && parse_bytes("3 lightyears").is_err());
    }

    #[test]
    fn bytes_print_in_round_units() {
        assert_eq!([999, 1000, 12_345_678].map(human_bytes), ["999 B", "1.00 kB", "12.35 MB"]);
    }
}
