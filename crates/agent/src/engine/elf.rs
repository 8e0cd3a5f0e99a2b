//! The canary's program: the smallest static ELF executable that exits with 0, so that the probe depends on no file of
//! the host.

/// Where the program is loaded.
const BASE: u64 = 0x40_0000;
const HEADERS_BYTES: u64 = 64 + 56;

/// `exit(0)`: the system call alone.
#[cfg(target_arch = "x86_64")]
const CODE: [u8; 9] = [0x31, 0xff, 0xb8, 0x3c, 0, 0, 0, 0x0f, 0x05];
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;

/// `mov x0, #0; mov x8, #93; svc #0`
#[cfg(target_arch = "aarch64")]
const CODE: [u8; 12] = [0, 0, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 1, 0, 0, 0xd4];
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;

/// The executable's bytes: ELF header, one program header, the code (System V ABI, chapters 4 and 5).
pub fn exit_zero() -> Vec<u8> {
    let size = HEADERS_BYTES + CODE.len() as u64;
    let mut bytes = Vec::with_capacity(256);
    bytes.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    bytes.extend(2u16.to_le_bytes()); // e_type: executable
    bytes.extend(MACHINE.to_le_bytes());
    bytes.extend(1u32.to_le_bytes()); // e_version
    bytes.extend((BASE + HEADERS_BYTES).to_le_bytes()); // e_entry
    bytes.extend(64u64.to_le_bytes()); // e_phoff
    bytes.extend(0u64.to_le_bytes()); // e_shoff
    bytes.extend(0u32.to_le_bytes()); // e_flags
    for half in [64u16, 56, 1, 64, 0, 0] {
        bytes.extend(half.to_le_bytes()); // sizes and counts of the headers
    }
    bytes.extend(1u32.to_le_bytes()); // p_type: load
    bytes.extend(5u32.to_le_bytes()); // p_flags: read, execute
    for word in [0, BASE, BASE, size, size, 0x1000] {
        bytes.extend(word.to_le_bytes()); // offset, addresses, sizes, alignment
    }
    bytes.extend(CODE);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::OpenOptionsExt;

    #[test]
    fn it_runs_and_exits_with_0() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("true");
        let mut file = std::fs::File::options().write(true).create_new(true).mode(0o755).open(&path).expect("a file");
        std::io::Write::write_all(&mut file, &exit_zero()).expect("written");
        drop(file);
        // Another test's fork may hold the file open for writing for a moment (ETXTBSY).
        let ran = (0..100).find_map(|_| std::process::Command::new(&path).status().ok());
        assert_eq!(ran.and_then(|status| status.code()), Some(0));
    }
}
