//! The `tidegate` command.

use std::process::ExitCode;

/// pingora's allocations are small and many: mimalloc takes a sixth off a proxied request's user instructions.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidegate::cli::main(&tidegate_filters::engine::Kinds::builtin())
}
