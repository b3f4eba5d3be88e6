/**
 * The C library, through Deno's FFI: the only file that knows `Deno.dlopen`.
 *
 * - Loaded at first use, never at import.
 * - Only `buffer` parameters: a grant of one path forbids `Deno.UnsafePointer`.
 *   Every call is synchronous, so a buffer handed over is held by the call's
 *   own arguments until it has returned.
 * - `errno` is deliberately not in the table: V8 and Deno make system calls of
 *   their own before JavaScript could read it. Return codes, SO_ERROR, TCP_INFO
 *   and netlink answers carry what is needed.
 *
 * @module
 */

import { KernelCallError, UnsupportedPlatformError } from "../base/errors.ts";

/**
 * The functions used. `ioctl` and `fcntl` are variadic in C; on Linux, x86_64
 * and aarch64 pass variadic integers and pointers exactly like fixed ones.
 * `ssize_t` results arrive as bigint.
 */
const SYMBOLS = {
  socket: {
    parameters: [
      "i32", // int domain
      "i32", // int type
      "i32", // int protocol
    ],
    result: "i32",
  },
  close: {
    parameters: ["i32"], // int fd
    result: "i32",
  },
  fcntl: {
    parameters: [
      "i32", // int fd
      "i32", // int cmd
      "i64", // long arg
    ],
    result: "i32",
  },
  ioctl: {
    parameters: [
      "i32", // int fd
      "u64", // unsigned long request (musl: int)
      "buffer", // void *argp
    ],
    result: "i32",
  },
  getsockopt: {
    parameters: [
      "i32", // int fd
      "i32", // int level
      "i32", // int optname
      "buffer", // void *optval
      "buffer", // socklen_t *optlen
    ],
    result: "i32",
  },
  setsockopt: {
    parameters: [
      "i32", // int fd
      "i32", // int level
      "i32", // int optname
      "buffer", // const void *optval
      "u32", // socklen_t optlen
    ],
    result: "i32",
  },
  getsockname: {
    parameters: [
      "i32", // int fd
      "buffer", // struct sockaddr *addr
      "buffer", // socklen_t *addrlen
    ],
    result: "i32",
  },
  getpeername: {
    parameters: [
      "i32", // int fd
      "buffer", // struct sockaddr *addr
      "buffer", // socklen_t *addrlen
    ],
    result: "i32",
  },
  connect: {
    parameters: [
      "i32", // int fd
      "buffer", // const struct sockaddr *addr
      "u32", // socklen_t addrlen
    ],
    result: "i32",
  },
  shutdown: {
    parameters: [
      "i32", // int fd
      "i32", // int how
    ],
    result: "i32",
  },
  poll: {
    parameters: [
      "buffer", // struct pollfd *fds
      "u64", // nfds_t nfds
      "i32", // int timeout
    ],
    result: "i32",
  },
  sigaction: {
    parameters: [
      "i32", // int signum
      "buffer", // const struct sigaction *act
      "buffer", // struct sigaction *oldact
    ],
    result: "i32",
  },
  send: {
    parameters: [
      "i32", // int fd
      "buffer", // const void *buf
      "usize", // size_t len
      "i32", // int flags
    ],
    result: "isize",
  },
  recv: {
    parameters: [
      "i32", // int fd
      "buffer", // void *buf
      "usize", // size_t len
      "i32", // int flags
    ],
    result: "isize",
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** The C functions that the kernel layer calls. */
export type Libc = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

/** A place where a distribution keeps its C library. */
export interface LibcCandidate {
  /** The path, exactly as it has to be granted: Deno compares strings, not files. */
  readonly path: string;
  /** Who keeps it there. */
  readonly distributions: string;
}

/** The machine that {@linkcode libcCandidates} answers for; `Deno.build` fits. */
export interface LibcMachine {
  /** `"linux"`, `"darwin"`, … */
  readonly os: string;
  /** `"x86_64"` or `"aarch64"`. */
  readonly arch: string;
  /** The target triple, which names the C library that Deno itself is linked with. */
  readonly target: string;
}

/**
 * Where the C library may lie on this kind of machine, likeliest first. A
 * process must not load a second C library of another make, so a Deno built for
 * glibc gets glibc paths only, and one built for musl gets musl paths only.
 *
 * @param machine The machine. @default {Deno.build}
 * @returns Empty where sendq cannot run.
 *
 * @example The flag that the kernel layer needs
 * ```ts
 * import { libcCandidates } from "./libc.ts";
 * import assert from "node:assert/strict";
 *
 * const machine = { os: "linux", arch: "aarch64", target: "aarch64-unknown-linux-gnu" };
 * const [likeliest] = libcCandidates(machine);
 * assert.equal(likeliest?.path, "/lib/aarch64-linux-gnu/libc.so.6");
 * ```
 */
export function libcCandidates(machine: LibcMachine = Deno.build): readonly LibcCandidate[] {
  const { os, arch, target } = machine;
  if (os !== "linux" || (arch !== "x86_64" && arch !== "aarch64")) return [];
  if (target.includes("musl")) {
    return [
      { path: `/lib/ld-musl-${arch}.so.1`, distributions: "Alpine and others with musl" },
      { path: `/lib/libc.musl-${arch}.so.1`, distributions: "Alpine, by its other name" },
      { path: "/usr/lib/libc.so", distributions: "Void and others with musl" },
    ];
  }
  return [
    { path: `/lib/${arch}-linux-gnu/libc.so.6`, distributions: "Debian, Ubuntu" },
    { path: "/lib64/libc.so.6", distributions: "Fedora, RHEL, SUSE, Amazon Linux" },
    { path: "/usr/lib/libc.so.6", distributions: "Arch" },
    { path: `/usr/lib/${arch}-linux-gnu/libc.so.6`, distributions: "Debian, by its other name" },
    { path: "/usr/lib64/libc.so.6", distributions: "Fedora, by its other name" },
    { path: "/lib/libc.so.6", distributions: "others" },
    { path: "/usr/local/lib/libc.so.6", distributions: "the image denoland/deno:alpine" },
  ];
}

let loaded: Libc | undefined;

/**
 * The C library, loaded now if it was not yet. Never prompts: only paths that
 * are already granted are tried, and no read permission is needed.
 *
 * @throws {UnsupportedPlatformError} Not Linux on x86_64 or aarch64, or no C library found.
 * @throws {Deno.errors.NotCapable} No path is granted; the message has the flag to add.
 */
export function libc(): Libc {
  return loaded ??= load();
}

function load(): Libc {
  const candidates = libcCandidates();
  if (candidates.length === 0) {
    throw new UnsupportedPlatformError(
      `sendq reads the Linux kernel's TCP counters and runs on Linux, x86_64 or aarch64; ` +
        `this is ${Deno.build.target}.`,
    );
  }
  const failures: string[] = [];
  let refused = false;
  for (const { path } of candidates) {
    if (Deno.permissions.querySync({ name: "ffi", path }).state !== "granted") {
      refused = true;
      continue;
    }
    try {
      return Deno.dlopen(path, SYMBOLS).symbols;
    } catch (error) {
      failures.push(`${path}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  if (refused) throw new Deno.errors.NotCapable(missingGrant(candidates, failures));
  throw new UnsupportedPlatformError(
    `No C library could be loaded. Tried ${failures.join("; ")}.`,
  );
}

/** Says which flag to add. Without read permission nobody can look which path exists. */
function missingGrant(candidates: readonly LibcCandidate[], failures: readonly string[]): string {
  const present = candidates.filter(({ path }) => exists(path) === true);
  const [likeliest, ...others] = present.length > 0 ? present.slice(0, 1) : candidates;
  const flag = likeliest === undefined ? "--allow-ffi" : `--allow-ffi=${likeliest.path}`;
  const elsewhere = others.length === 0
    ? ""
    : ` That is the path on ${likeliest?.distributions}; elsewhere: ` +
      others.map(({ path, distributions }) => `${path} (${distributions})`).join(", ") + ".";
  const tried = failures.length === 0 ? "" : ` Granted but not loadable: ${failures.join("; ")}.`;
  return `Requires ffi access to the C library, to read the kernel's TCP counters: ` +
    `run again with ${flag}.${elsewhere}${tried}`;
}

/** Whether a path exists, where looking is permitted; `undefined` where it is not. */
function exists(path: string): boolean | undefined {
  if (Deno.permissions.querySync({ name: "read", path }).state !== "granted") return undefined;
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

/**
 * `getsockopt` of an option that is one 32-bit integer.
 *
 * @returns `undefined`: the kernel refused or gave another size; never 0 in its place.
 */
export function getSocketInt(fd: number, level: number, option: number): number | undefined {
  const value = new Int32Array(1);
  const length = new Uint32Array([value.byteLength]);
  const code = libc().getsockopt(fd, level, option, value, length);
  return code === 0 && length[0] === value.byteLength ? value[0] : undefined;
}

/**
 * `setsockopt` of an option that is one 32-bit integer.
 *
 * @returns Whether the kernel took it.
 */
export function setSocketInt(fd: number, level: number, option: number, value: number): boolean {
  const buffer = new Int32Array([value]);
  return libc().setsockopt(fd, level, option, buffer, buffer.byteLength) === 0;
}

/**
 * `getsockopt` of an option that is a name.
 *
 * @returns `undefined`: the kernel refused.
 */
export function getSocketName(fd: number, level: number, option: number): string | undefined {
  const name = new Uint8Array(16); // IFNAMSIZ and TCP_CA_NAME_MAX
  const length = new Uint32Array([name.byteLength]);
  if (libc().getsockopt(fd, level, option, name, length) !== 0) return undefined;
  const end = name.indexOf(0);
  return new TextDecoder().decode(name.subarray(0, end < 0 ? name.length : end));
}

/**
 * Gives a socket's descriptor back. For a socket the only failure is EBADF: it
 * was closed twice, and by then the number may belong to somebody else.
 *
 * @throws {KernelCallError} The descriptor was not open.
 */
export function closeDescriptor(fd: number): void {
  if (libc().close(fd) !== 0) {
    throw new KernelCallError("close", `Descriptor ${fd} was not open. Please report this.`);
  }
}
