/**
 * The C library, through Deno's FFI: the only file that knows `Deno.dlopen`.
 *
 * - Loaded at first use, never at import.
 * - Only `buffer` parameters: a grant of one path forbids `Deno.UnsafePointer`.
 *   Every call with a buffer is synchronous, so the buffer is held by the call's
 *   own arguments until it has returned. What waits (getaddrinfo, and poll for changes of
 *   files) runs in a thread of Deno's and is given addresses of the C library's own memory.
 * - `errno` is deliberately not in the table: V8 and Deno make system calls of
 *   their own before JavaScript could read it. Return codes, SO_ERROR, TCP_INFO
 *   and netlink answers carry what is needed.
 *
 * @module
 */

import { KernelCallError, messageOf, UnsupportedPlatformError } from "../base/errors.ts";
import {
  grantOf,
  isEverythingGranted,
  isGranted,
  isSupported,
  type LibraryCandidate,
  type Machine,
  makeOf,
} from "./library_paths.ts";

/**
 * The functions used. `ioctl`, `fcntl` and `open` are variadic in C; on Linux, x86_64
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
  // The same, in a thread.
  pollInThread: {
    name: "poll",
    parameters: [
      "u64", // struct pollfd *fds
      "u64", // nfds_t nfds
      "i32", // int timeout
    ],
    result: "i32",
    nonblocking: true,
  },
  read: {
    parameters: [
      "i32", // int fd
      "buffer", // void *buf
      "usize", // size_t count
    ],
    result: "isize",
  },
  open: {
    parameters: [
      "buffer", // const char *pathname
      "i32", // int flags
    ],
    result: "i32",
  },
  fallocate: {
    parameters: [
      "i32", // int fd
      "i32", // int mode
      "i64", // off_t offset
      "i64", // off_t len
    ],
    result: "i32",
  },
  inotify_init1: {
    parameters: ["i32"], // int flags
    result: "i32",
  },
  inotify_add_watch: {
    parameters: [
      "i32", // int fd
      "buffer", // const char *pathname
      "u32", // uint32_t mask
    ],
    result: "i32",
  },
  inotify_rm_watch: {
    parameters: [
      "i32", // int fd
      "i32", // int wd
    ],
    result: "i32",
  },
  clock_gettime: {
    parameters: [
      "i32", // clockid_t clockid
      "buffer", // struct timespec *tp
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
  getaddrinfo: {
    parameters: [
      "u64", // const char *node
      "u64", // const char *service
      "u64", // const struct addrinfo *hints
      "u64", // struct addrinfo **res
    ],
    result: "i32",
    nonblocking: true,
  },
  if_nametoindex: {
    parameters: ["buffer"], // const char *ifname
    result: "u32",
  },
  freeaddrinfo: {
    parameters: ["u64"], // struct addrinfo *res
    result: "void",
  },
  strdup: {
    parameters: ["buffer"], // const char *s
    result: "u64", // char *
  },
  calloc: {
    parameters: [
      "u64", // size_t n
      "u64", // size_t size
    ],
    result: "u64", // void *
  },
  memcpy: {
    parameters: [
      "buffer", // void *dest
      "u64", // const void *src
      "u64", // size_t n
    ],
    result: "u64", // void *
  },
  memcpyTo: {
    name: "memcpy",
    parameters: [
      "u64", // void *dest
      "buffer", // const void *src
      "u64", // size_t n
    ],
    result: "u64", // void *
  },
  free: {
    parameters: ["u64"], // void *ptr
    result: "void",
  },
  // Never called: glibc has it, musl does not.
  gnu_get_libc_version: {
    parameters: [],
    result: "pointer",
    optional: true,
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** The C functions that the kernel layer calls. */
export type Libc = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

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
export function libcCandidates(machine: Machine = Deno.build): readonly LibraryCandidate[] {
  if (!isSupported(machine)) return [];
  const { arch, target } = machine;
  if (makeOf(target) === "musl") {
    return [
      { path: `/lib/ld-musl-${arch}.so.1`, distributions: "Alpine and others with musl" },
      { path: `/lib/libc.musl-${arch}.so.1`, distributions: "Alpine", isAlias: true },
      { path: "/usr/lib/libc.so", distributions: "Void and others with musl", isAlias: true },
    ];
  }
  const debian = `${arch}-linux-gnu/libc.so.6`;
  return [
    { path: `/lib/${debian}`, distributions: "Debian, Ubuntu" },
    { path: "/lib64/libc.so.6", distributions: "Fedora, RHEL, SUSE, Amazon Linux" },
    { path: "/usr/lib/libc.so.6", distributions: "Arch" },
    { path: "/usr/local/lib/glibc/libc.so.6", distributions: "the image denoland/deno:alpine" },
    { path: "/usr/local/lib/libc.so.6", distributions: "the same image, before" },
    { path: `/usr/lib/${debian}`, distributions: "Debian", isAlias: true },
    { path: "/usr/lib64/libc.so.6", distributions: "Fedora", isAlias: true },
    { path: "/lib/libc.so.6", distributions: "others" },
  ];
}

/**
 * What the flag `--allow-ffi=` has to be followed by; see {@linkcode grantOf}.
 *
 * @param tried Paths that were granted and could not be loaded: not named again.
 */
export function libcGrant(tried: readonly string[] = []): string {
  return grantOf(libcCandidates().filter(({ path }) => !tried.includes(path)));
}

let loaded: Libc | undefined;

/**
 * The C library, loaded now if it was not yet. Never prompts: only what is already
 * granted is tried, and no read permission is needed.
 *
 * @throws {UnsupportedPlatformError} Not Linux on x86_64 or aarch64, or no C library found.
 * @throws {Deno.errors.NotCapable} No path is granted; the message has the flag to add.
 */
export function libc(): Libc {
  return loaded ??= load();
}

/**
 * Loads the C library, from a path of the user's where there is one. A process has one: where it
 * is loaded already, that one stays.
 *
 * @param path As it is granted.
 * @throws {RangeError} It is the library of another make than Deno's own, or cannot be loaded.
 * @throws {UnsupportedPlatformError} Not Linux on x86_64 or aarch64.
 * @throws {Deno.errors.NotCapable} It is not granted.
 */
export function loadLibc(path: string | undefined): void {
  if (path === undefined) return void libc();
  if (loaded !== undefined) return;
  checkPlatform();
  if (!isGranted(path)) throw new Deno.errors.NotCapable(needs(`--allow-ffi=${path}`));
  try {
    loaded = open(path);
  } catch (error) {
    throw new RangeError(
      `libc = ${path} cannot be used: ${messageOf(error)}. ${HOW_TO_FIND}`,
      { cause: error },
    );
  }
}

/** The name that the running process knows its own C library by, whatever its path. */
const OWN_NAME = { glibc: "libc.so.6", musl: "libc.so" } as const;

const HOW_TO_FIND = 'ldd "$(command -v deno)" shows the path of the one that Deno itself uses';

function checkPlatform(): void {
  if (libcCandidates().length > 0) return;
  throw new UnsupportedPlatformError(
    `sendq reads the Linux kernel's TCP counters and runs on Linux, x86_64 or aarch64; ` +
      `this is ${Deno.build.target}.`,
  );
}

function load(): Libc {
  checkPlatform();
  const granted = libcCandidates().map(({ path }) => path).filter(isGranted);
  // Granted without a path: what the process has already is right on every distribution
  // (NixOS and Guix have no path that could be known), and cannot be of the wrong make.
  const everything = isEverythingGranted();
  const names = everything ? [OWN_NAME[makeOf(Deno.build.target)], ...granted] : granted;
  const failures = new Map<string, string>();
  for (const name of names) {
    try {
      return open(name);
    } catch (error) {
      failures.set(name, messageOf(error));
    }
  }
  if (everything) {
    throw new UnsupportedPlatformError(
      `No C library could be loaded. Tried ${listed(failures)}. ${HOW_TO_FIND}: give it as ` +
        `the option libc.`,
    );
  }
  throw new Deno.errors.NotCapable(missingGrant(failures));
}

/** @throws {Error} Not loadable, or of another make. */
function open(path: string): Libc {
  const make = makeOf(Deno.build.target);
  const other = make === "glibc" ? "musl" : "glibc";
  const wrong = `it is ${other}, and this Deno is built for ${make}: two in one process crash it`;
  // By its name, too, so that it need not be loaded to be refused.
  if (make === "glibc" && /musl/.test(path)) throw new Error(wrong);
  const library = Deno.dlopen(path, SYMBOLS);
  if ((library.symbols.gnu_get_libc_version !== null) === (make === "glibc")) {
    return library.symbols;
  }
  library.close();
  throw new Error(wrong);
}

function missingGrant(failures: ReadonlyMap<string, string>): string {
  const tried = failures.size === 0 ? "" : ` Granted but not loadable: ${listed(failures)}.`;
  const paths = libcGrant([...failures.keys()]);
  return paths === ""
    ? needs("--allow-ffi=PATH") +
      ` None of the known paths exists here. ${HOW_TO_FIND}; give it as the option libc, too.` +
      tried
    : needs(`--allow-ffi=${paths}`) + tried;
}

function listed(failures: ReadonlyMap<string, string>): string {
  return [...failures].map(([name, why]) => `${name}: ${why}`).join("; ");
}

function needs(flag: string): string {
  return `Requires ffi access to the C library, to read the kernel's TCP counters: ` +
    `run again with ${flag}.`;
}

/**
 * `getsockopt` of an option that is one 32-bit integer.
 *
 * @returns `undefined`: the kernel refused or gave another size; never 0 in its place.
 */
export function getSocketInt(fd: number, level: number, option: number): number | undefined {
  // Room for two, so that the length tells one that was written from a call that
  // says yes and writes nothing, as a sandbox's filter can make it.
  const value = new Int32Array(2);
  const length = new Uint32Array([value.byteLength]);
  const code = libc().getsockopt(fd, level, option, value, length);
  return code === 0 && length[0] === value.BYTES_PER_ELEMENT ? value[0] : undefined;
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
  const name = new Uint8Array(32); // Twice IFNAMSIZ and TCP_CA_NAME_MAX, see getSocketInt.
  const length = new Uint32Array([name.byteLength]);
  if (libc().getsockopt(fd, level, option, name, length) !== 0) return undefined;
  if (length[0] === name.byteLength) return undefined;
  const end = name.indexOf(0);
  return new TextDecoder().decode(name.subarray(0, end < 0 ? name.length : end));
}

/**
 * The number of an interface.
 *
 * @param zone Its name, or the number itself, as behind the `%` of an address.
 * @returns 0: there is no such interface.
 */
export function interfaceIndex(zone: string): number {
  return libc().if_nametoindex(new TextEncoder().encode(`${zone}\0`)) || (Number(zone) || 0);
}

/**
 * Gives a descriptor back, to which nothing was written through it. Then the only failure is
 * EBADF: it was closed twice, and by then the number may belong to somebody else.
 *
 * @throws {KernelCallError} The descriptor was not open.
 */
export function closeDescriptor(fd: number): void {
  if (libc().close(fd) !== 0) {
    throw new KernelCallError("close", `Descriptor ${fd} was not open. Please report this.`);
  }
}
