//! Names of an archive's files -> whether a file system can hold them side by side.

use std::collections::HashSet;

use crate::error::{Error, Result};

/// What the file systems of a platform do to names.
#[derive(Clone, Copy)]
pub struct Naming {
    ignores_case: bool,
    has_devices: bool,
}

impl Naming {
    /// Of this platform, where most disks do so.
    pub const HERE: Naming =
        Naming { ignores_case: cfg!(any(windows, target_vendor = "apple")), has_devices: cfg!(windows) };

    /// Checks that no name stands for another's file or folder, nor for a device.
    ///
    /// # Errors
    /// `Argument` if one does.
    pub fn check(self, names: &[&str]) -> Result<()> {
        let refused = |name: &str, reason: &str| Err(Error::argument(format!("the archive has {name:?} {reason}")));
        let folded: Vec<String> = names.iter().map(|name| self.folded(name)).collect();
        let mut files = HashSet::new();
        if let Some((name, _)) = names.iter().zip(&folded).find(|(_, folded)| !files.insert(folded.as_str())) {
            return refused(name, "twice, but for upper and lower case");
        }
        for name in &folded {
            let mut folders = name.match_indices('/').map(|(end, _)| &name[..end]);
            if let Some(folder) = folders.find(|folder| files.contains(folder)) {
                return refused(folder, "both as a file and as a folder");
            }
        }
        match names.iter().find(|name| self.has_devices && name.split('/').any(is_reserved)) {
            Some(name) => refused(name, "which is no name for a file here"),
            None => Ok(()),
        }
    }

    fn folded(self, name: &str) -> String {
        if self.ignores_case { name.to_lowercase() } else { name.to_owned() }
    }
}

/// Whether Windows takes a component for a device, drops its end, or refuses it.
fn is_reserved(component: &str) -> bool {
    let stem = component.split('.').next().unwrap_or_default().trim_end().to_uppercase();
    let numbered = ["COM", "LPT"].iter().find_map(|device| stem.strip_prefix(device));
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$")
        || numbered
            .is_some_and(|number| matches!(number, "¹" | "²" | "³") || number.parse().is_ok_and(|digit: u8| digit < 10))
        || component.ends_with(['.', ' '])
        || component.contains(['<', '>', '"', '|', '?', '*'])
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINUX: Naming = Naming { ignores_case: false, has_devices: false };
    const WINDOWS: Naming = Naming { ignores_case: true, has_devices: true };

    #[test]
    fn names_that_differ_in_case_alone_are_one_on_some_systems() {
        let names = ["Model.bin", "model.BIN"];
        assert!(LINUX.check(&names).is_ok());
        let error = WINDOWS.check(&names).unwrap_err().to_string();
        assert_eq!(error, "the archive has \"model.BIN\" twice, but for upper and lower case");
    }

    #[test]
    fn a_file_is_no_folder() {
        assert!(LINUX.check(&["a", "ab/c", "b/a/c"]).is_ok());
        let error = LINUX.check(&["a/b/c", "a/b"]).unwrap_err().to_string();
        assert_eq!(error, "the archive has \"a/b\" both as a file and as a folder");
        assert!(LINUX.check(&["a/b", "A"]).is_ok());
        assert!(WINDOWS.check(&["a/b", "A"]).is_err());
    }

    #[test]
    fn devices_are_no_names() {
        for name in ["CON", "a/nul.txt", "Com1.bin", "lpt²", "aux .x", "a.", "b ", "a?b", "a*/c"] {
            assert!(LINUX.check(&[name]).is_ok(), "{name}");
            assert!(WINDOWS.check(&[name]).is_err(), "{name}");
        }
        for name in ["CONSOLE", "com10", "a.con", "nul_", ".a", "lpt"] {
            assert!(WINDOWS.check(&[name]).is_ok(), "{name}");
        }
    }
}
