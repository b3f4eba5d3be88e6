/**
 * The C library, through Deno's FFI, loaded at first use.
 *
 * - Only `buffer` parameters: a grant of one path forbids `Deno.UnsafePointer`.
 *   Every call with a buffer is synchronous, so the buffer is held by the call's
 *   own arguments until it has returned. What waits (getaddrinfo, and poll for changes of files and
 *   for input) runs in a thread of Deno's and is given addresses of the C library's own memory.
 * - `errno` is deliberately not in the table: V8 and Deno make system calls of
 *   their own before JavaScript could read it (ARCHITECTURE.md, rule 8).
 */

import { KernelCallError, messageOf, UnsupportedPlatformError } from "../base/errors.ts";
import {
  call,
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
  // int socket(int domain, int type, int protocol)
  socket: call(["i32", "i32", "i32"], "i32"),
  // int close(int fd)
  close: call(["i32"], "i32"),
  // int fcntl(int fd, int cmd, long arg)
  fcntl: call(["i32", "i32", "i64"], "i32"),
  // int ioctl(int fd, unsigned long request, void *argp); musl: int request
  ioctl: call(["i32", "u64", "buffer"], "i32"),
  // int getsockopt(int fd, int level, int optname, void *optval, socklen_t *optlen)
  getsockopt: call(["i32", "i32", "i32", "buffer", "buffer"], "i32"),
  // int setsockopt(int fd, int level, int optname, const void *optval, socklen_t optlen)
  setsockopt: call(["i32", "i32", "i32", "buffer", "u32"], "i32"),
  // int getsockname(int fd, struct sockaddr *addr, socklen_t *addrlen)
  getsockname: call(["i32", "buffer", "buffer"], "i32"),
  // int getpeername(int fd, struct sockaddr *addr, socklen_t *addrlen)
  getpeername: call(["i32", "buffer", "buffer"], "i32"),
  // int connect(int fd, const struct sockaddr *addr, socklen_t addrlen)
  connect: call(["i32", "buffer", "u32"], "i32"),
  // int shutdown(int fd, int how)
  shutdown: call(["i32", "i32"], "i32"),
  // int poll(struct pollfd *fds, nfds_t nfds, int timeout)
  poll: call(["buffer", "u64", "i32"], "i32"),
  // The same, in a thread.
  pollInThread: {
    name: "poll",
    parameters: ["u64", "u64", "i32"],
    result: "i32",
    nonblocking: true,
  },
  // ssize_t read(int fd, void *buf, size_t count)
  read: call(["i32", "buffer", "usize"], "isize"),
  // int open(const char *pathname, int flags)
  open: call(["buffer", "i32"], "i32"),
  // int fallocate(int fd, int mode, off_t offset, off_t len)
  fallocate: call(["i32", "i32", "i64", "i64"], "i32"),
  // int inotify_init1(int flags)
  inotify_init1: call(["i32"], "i32"),
  // int inotify_add_watch(int fd, const char *pathname, uint32_t mask)
  inotify_add_watch: call(["i32", "buffer", "u32"], "i32"),
  // int inotify_rm_watch(int fd, int wd)
  inotify_rm_watch: call(["i32", "i32"], "i32"),
  // int clock_gettime(clockid_t clockid, struct timespec *tp)
  clock_gettime: call(["i32", "buffer"], "i32"),
  // int sigaction(int signum, const struct sigaction *act, struct sigaction *oldact)
  sigaction: call(["i32", "buffer", "buffer"], "i32"),
  // ssize_t send(int fd, const void *buf, size_t len, int flags)
  send: call(["i32", "buffer", "usize", "i32"], "isize"),
  // ssize_t recv(int fd, void *buf, size_t len, int flags)
  recv: call(["i32", "buffer", "usize", "i32"], "isize"),
  // int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
  //                 struct addrinfo **res)
  getaddrinfo: { parameters: ["u64", "u64", "u64", "u64"], result: "i32", nonblocking: true },
  // unsigned if_nametoindex(const char *ifname)
  if_nametoindex: call(["buffer"], "u32"),
  // void freeaddrinfo(struct addrinfo *res)
  freeaddrinfo: call(["u64"], "void"),
  // char *strdup(const char *s)
  strdup: call(["buffer"], "u64"),
  // void *calloc(size_t n, size_t size)
  calloc: call(["u64", "u64"], "u64"),
  // void *memcpy(void *dest, const void *src, size_t n), out of the C library's memory
  memcpy: call(["buffer", "u64", "u64"], "u64"),
  // The same, into it.
  memcpyTo: { name: "memcpy", parameters: ["u64", "buffer", "u64"], result: "u64" },
  // void free(void *ptr)
  free: call(["u64"], "void"),
  // Never called: glibc has it, musl does not.
  gnu_get_libc_version: { parameters: [], result: "pointer", optional: true },
} as const satisfies Deno.ForeignLibraryInterface;

export type Libc = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

/**
 * Where the C library may lie on this kind of machine, likeliest first. A
 * process must not load a second C library of another make, so a Deno built for
 * glibc gets glibc paths only, and one built for musl gets musl paths only.
 *
 * @returns Empty where sendq cannot run.
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
 * What the flag `--allow-ffi=` has to be followed by; see `grantOf`.
 *
 * @param tried Paths that were granted and could not be loaded: not named again.
 */
export function libcGrant(tried: readonly string[] = []): string {
  return grantOf(libcCandidates().filter(({ path }) => !tried.includes(path)));
}

let loaded: Libc | undefined;

/**
 * The C library, loaded now if it was not yet. Never prompts: only what is already
 * granted is tried.
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

/** A text as C has it. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}

/** `setsockopt` of an option that is a name. Says whether the kernel took it. */
export function setSocketName(fd: number, level: number, option: number, value: string): boolean {
  const name = cString(value);
  return libc().setsockopt(fd, level, option, name, name.byteLength) === 0;
}

/** `getsockopt` of a 32-bit integer; `undefined`, and never 0, where the kernel does not say. */
export function getSocketInt(fd: number, level: number, option: number): number | undefined {
  // Room for two, so that the length tells one that was written from a call that
  // says yes and writes nothing, as a sandbox's filter can make it.
  const value = new Int32Array(2);
  const length = new Uint32Array([value.byteLength]);
  const code = libc().getsockopt(fd, level, option, value, length);
  return code === 0 && length[0] === value.BYTES_PER_ELEMENT ? value[0] : undefined;
}

/** `setsockopt` of an option that is one 32-bit integer. Says whether the kernel took it. */
export function setSocketInt(fd: number, level: number, option: number, value: number): boolean {
  const buffer = new Int32Array([value]);
  return libc().setsockopt(fd, level, option, buffer, buffer.byteLength) === 0;
}

/** `getsockopt` of an option that is a name; `undefined`: the kernel refused. */
export function getSocketName(fd: number, level: number, option: number): string | undefined {
  const name = new Uint8Array(32); // Twice IFNAMSIZ and TCP_CA_NAME_MAX, see getSocketInt.
  const length = new Uint32Array([name.byteLength]);
  if (libc().getsockopt(fd, level, option, name, length) !== 0) return undefined;
  if (length[0] === name.byteLength) return undefined;
  const end = name.indexOf(0);
  return new TextDecoder().decode(name.subarray(0, end < 0 ? name.length : end));
}

/**
 * The number of an interface; 0: there is none.
 *
 * @param zone Its name, or the number itself, as behind the `%` of an address.
 */
export function interfaceIndex(zone: string): number {
  return libc().if_nametoindex(cString(zone)) || (Number(zone) || 0);
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
