//! Every number that bounds what comes from outside, with its unit in its name.
//!
//! A limit lives here when more than one crate needs it; a limit of one module stands in that module.

/// Virtual CPUs of a VM: the contract's range.
pub const CPU_MIN: u32 = 1;
/// See [`CPU_MIN`].
pub const CPU_MAX: u32 = 8;
/// Memory of a VM in MiB: the contract's range.
pub const MEMORY_MIN_MIB: u32 = 256;
/// See [`MEMORY_MIN_MIB`].
pub const MEMORY_MAX_MIB: u32 = 16_384;
/// Size of a VM's `/data` volume in GB: the contract's range.
pub const VOLUME_MIN_GB: u32 = 1;
/// See [`VOLUME_MIN_GB`].
pub const VOLUME_MAX_GB: u32 = 500;

/// Environment variables of one VM.
pub const ENV_VARS_MAX: usize = 512;
/// Bytes of one environment variable's name.
pub const ENV_NAME_MAX_BYTES: usize = 256;
/// Bytes of one environment variable's value: Linux allows 128 KiB for one string (`MAX_ARG_STRLEN`).
pub const ENV_VALUE_MAX_BYTES: usize = 120 * 1024;
/// Bytes of all environment variables of one VM together, the image's included.
pub const ENV_TOTAL_MAX_BYTES: usize = 1024 * 1024;

/// Words of a `command`, and bytes of all of them together.
pub const COMMAND_WORDS_MAX: usize = 256;
/// See [`COMMAND_WORDS_MAX`].
pub const COMMAND_TOTAL_MAX_BYTES: usize = 128 * 1024;

/// Entries of a `metadata` map.
pub const METADATA_ENTRIES_MAX: usize = 32;
/// Bytes of a metadata key.
pub const METADATA_KEY_MAX_BYTES: usize = 64;
/// Bytes of a metadata value.
pub const METADATA_VALUE_MAX_BYTES: usize = 512;

/// Bytes of a `tenant`: the builder's name for one of its end users.
pub const TENANT_MAX_BYTES: usize = 128;
/// Bytes of an image reference.
pub const IMAGE_URI_MAX_BYTES: usize = 1024;
/// Bytes of a registry password: an ECR token has about 2 KiB.
pub const REGISTRY_PASSWORD_MAX_BYTES: usize = 16 * 1024;

/// Longest life of a one-time VM, or run of a cached one, that may be asked for, in seconds (a year).
pub const TIMEOUT_MAX_SECS: u64 = 365 * 24 * 3600;
/// Longest time without a request after which a cached VM may be put to sleep, in seconds (30 days).
pub const IDLE_TIMEOUT_MAX_SECS: u32 = 30 * 24 * 3600;
/// Writable root disk of a VM, in MiB, where the configuration does not say otherwise.
pub const DISK_DEFAULT_MIB: u32 = 2048;
/// Time between the stop signal and the kill, in milliseconds.
pub const STOP_GRACE_DEFAULT_MS: u64 = 10_000;

/// Bytes of a log line; longer ones are split and marked.
pub const LOG_LINE_MAX_BYTES: usize = 64 * 1024;
/// Lines of a page of logs: the contract's range and default.
pub const LOG_BATCH_MIN: u32 = 50;
/// See [`LOG_BATCH_MIN`].
pub const LOG_BATCH_MAX: u32 = 1000;
/// See [`LOG_BATCH_MIN`].
pub const LOG_BATCH_DEFAULT: u32 = 100;
/// VMs whose logs one search goes through.
pub const LOG_SEARCH_VMS_MAX: usize = 1000;
/// Bytes of a log search string.
pub const LOG_QUERY_MAX_BYTES: usize = 1024;

/// Bytes of a request body that the API reads.
pub const BODY_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of a Dockerfile, and of a .dockerignore.
pub const DOCKERFILE_MAX_BYTES: usize = 1024 * 1024;
/// Instructions of a Dockerfile, heredocs' content not counted.
pub const DOCKERFILE_INSTRUCTIONS_MAX: usize = 1000;
/// Files of a build from files: one more is refused.
pub const BUILD_FILES_MAX: usize = 10_000;
/// Bytes of all files of a build from files together, decoded.
pub const BUILD_FILES_MAX_BYTES: u64 = 100 * 1024 * 1024;
/// Bytes of the body that carries them: base64 takes a third more, JSON's escapes some.
pub const BUILD_BODY_MAX_BYTES: usize = 160 * 1024 * 1024;
/// Bytes of a file's path in a build.
pub const BUILD_PATH_MAX_BYTES: usize = 1024;
/// Build arguments of one build, and bytes of all of them together.
pub const BUILD_ARGS_MAX: usize = 128;
/// See [`BUILD_ARGS_MAX`].
pub const BUILD_ARGS_TOTAL_MAX_BYTES: usize = 256 * 1024;
/// Secrets of one build, and bytes of each.
pub const BUILD_SECRETS_MAX: usize = 32;
/// See [`BUILD_SECRETS_MAX`].
pub const BUILD_SECRET_MAX_BYTES: usize = 64 * 1024;
/// Bytes of a repository's token.
pub const SOURCE_TOKEN_MAX_BYTES: usize = 4096;
/// Bytes of a repository's `org/repo`, of a branch's name, and of a folder in it.
pub const SOURCE_NAME_MAX_BYTES: usize = 256;
/// Registries that an account keeps a credential of.
pub const REGISTRIES_MAX: u64 = 100;

/// Time after which an exec is killed where nothing else is asked for, in seconds.
pub const EXEC_TIMEOUT_DEFAULT_SECS: u64 = 60;
/// Longest time of an exec, in seconds (a day).
pub const EXEC_TIMEOUT_MAX_SECS: u64 = 24 * 3600;
/// Bytes of the standard input that comes with a request.
pub const EXEC_STDIN_MAX_BYTES: usize = 1024 * 1024;
/// Bytes that an answer has of each output stream; what comes after is counted alone.
pub const EXEC_OUTPUT_MAX_BYTES: usize = 1024 * 1024;
/// Bytes of one message of an open exec.
pub const EXEC_MESSAGE_MAX_BYTES: usize = 64 * 1024;
/// Execs that are open in one VM.
pub const EXECS_MAX: u32 = 32;
/// Bytes of an exec's working directory, and of a path in a VM.
pub const GUEST_PATH_MAX_BYTES: usize = 4096;
/// Bytes of a VM's file, or of a directory as an archive, that go in or out at once (4 GiB).
pub const VM_FILE_MAX_BYTES: u64 = 4 << 30;
/// Entries of a directory's list.
pub const VM_LISTING_MAX: usize = 10_000;
/// Entries of an archive that goes in or out.
pub const VM_ARCHIVE_ENTRIES_MAX: usize = 100_000;
