//! Loop devices by ioctl: the one thing here that no safe wrapper offers. See `drivers/block/loop.c` and
//! `include/uapi/linux/loop.h` of Linux; `LOOP_CONFIGURE` came with 5.8.
//!
//! Invariant: a device is attached with autoclear before anybody else sees it, so that the kernel frees it with its
//! last user: an unmount, or the death of this process at any line.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::ioctl::{self, Ioctl, IoctlOutput, Opcode, Setter};

const LOOP_CTL_GET_FREE: Opcode = 0x4C82;
const LOOP_CONFIGURE: Opcode = 0x4C0A;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// Others on the host take loop devices too: how often one may be snatched between asking for it and attaching.
const ATTEMPTS_MAX: u32 = 64;

/// `struct loop_info64`.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopConfig>() == 304, "the kernel's layout");

/// `LOOP_CTL_GET_FREE` answers by its return value.
struct GetFree;

// SAFETY: the request takes no argument, writes nothing through the pointer, and its answer is the return value.
unsafe impl Ioctl for GetFree {
    type Output = i32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        LOOP_CTL_GET_FREE
    }

    fn as_ptr(&mut self) -> *mut rustix::ffi::c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(number: IoctlOutput, _: *mut rustix::ffi::c_void) -> rustix::io::Result<i32> {
        Ok(number)
    }
}

/// Attaches `backing` to a free loop device. The device lives as long as the answered file or a mount of it.
///
/// # Errors
/// What the kernel says; `EBUSY` where others took every device that was offered.
pub fn attach_loop(backing: &File) -> io::Result<(File, PathBuf)> {
    let control = File::options().read(true).write(true).open("/dev/loop-control")?;
    for _ in 0..ATTEMPTS_MAX {
        // SAFETY: `GetFree` describes this request, and `control` is the device that serves it.
        let number = unsafe { ioctl::ioctl(&control, GetFree) }?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = File::options().read(true).write(true).open(&path)?;
        match configure(&device, backing) {
            Ok(()) => return Ok((device, path)),
            Err(Errno::BUSY) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(Errno::BUSY.into())
}

fn configure(device: &File, backing: &File) -> rustix::io::Result<()> {
    let config = LoopConfig {
        fd: u32::try_from(backing.as_raw_fd()).expect("an open file's number is not negative"),
        block_size: 0,
        info: LoopInfo {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            sizelimit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: LO_FLAGS_AUTOCLEAR,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: `LOOP_CONFIGURE` reads a `struct loop_config`, whose layout `LoopConfig` has, and keeps no pointer.
    unsafe {
        let setter = Setter::<LOOP_CONFIGURE, LoopConfig>::new(config);
        ioctl::ioctl(device, setter)
    }
}
