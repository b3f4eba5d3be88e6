/**
 * The C library calls of the laboratory's own programs. It shares nothing with
 * the code under test, so that the two cannot be wrong in the same way.
 *
 * @module
 */

const SYMBOLS = {
  /** int socket(int domain, int type, int protocol) */
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  /** int bind(int fd, const struct sockaddr *, socklen_t) */
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  /** int listen(int fd, int backlog) */
  listen: { parameters: ["i32", "i32"], result: "i32" },
  /** int accept4(int fd, struct sockaddr *, socklen_t *, int flags) */
  accept4: { parameters: ["i32", "buffer", "buffer", "i32"], result: "i32" },
  /** int getsockname(int fd, struct sockaddr *, socklen_t *) */
  getsockname: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  /** int setsockopt(int fd, int level, int name, const void *, socklen_t) */
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  /** int getsockopt(int fd, int level, int name, void *, socklen_t *) */
  getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
  /** ssize_t recv(int fd, void *, size_t, int flags) */
  recv: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  /** ssize_t send(int fd, const void *, size_t, int flags) */
  send: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  /** int shutdown(int fd, int how) */
  shutdown: { parameters: ["i32", "i32"], result: "i32" },
  /** int open(const char *path, int flags) */
  open: { parameters: ["buffer", "i32"], result: "i32" },
  /** ssize_t read(int fd, void *, size_t) */
  read: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  /** ssize_t write(int fd, const void *, size_t) */
  write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  /** int close(int fd) */
  close: { parameters: ["i32"], result: "i32" },
  /** int ioctl(int fd, unsigned long request, void *) */
  ioctl: { parameters: ["i32", "usize", "buffer"], result: "i32" },
  /** int ppoll(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *) */
  ppoll: { parameters: ["buffer", "usize", "buffer", "pointer"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

/** The opened C library. */
export type Libc = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

/** `poll(2)` events. */
export const POLLIN = 1;

/** Opens the C library: glibc or musl. */
export function openLibc(): Libc {
  const names = ["libc.so.6", `libc.musl-${Deno.build.arch}.so.1`];
  for (const name of names) {
    try {
      return Deno.dlopen(name, SYMBOLS).symbols;
    } catch {
      // The next name; the error below says that none was found.
    }
  }
  throw new Error(`no C library found: tried ${names.join(", ")}`);
}

/** Returns `result`, or throws naming the call when it is the C library's failure, -1. */
export function checked(call: string, result: number | bigint): number {
  const value = Number(result);
  if (value < 0) throw new Error(`${call} failed`);
  return value;
}

/** Waits in `ppoll(2)` on a few descriptors. */
export class Poller {
  #libc: Libc;
  #fds: DataView<ArrayBuffer> = new DataView(new ArrayBuffer(0));
  #timeout: BigInt64Array<ArrayBuffer> = new BigInt64Array(2);

  constructor(libc: Libc) {
    this.#libc = libc;
  }

  /**
   * Waits until a descriptor is readable, at its end or in error.
   *
   * @param fds What to watch.
   * @param timeoutMs How long at most.
   * @returns For each descriptor, whether it is ready.
   */
  wait(fds: readonly number[], timeoutMs: number): boolean[] {
    if (this.#fds.byteLength !== fds.length * 8) {
      this.#fds = new DataView(new ArrayBuffer(fds.length * 8));
    }
    fds.forEach((fd, i) => {
      this.#fds.setInt32(i * 8, fd, true);
      this.#fds.setInt16(i * 8 + 4, POLLIN, true);
      this.#fds.setInt16(i * 8 + 6, 0, true);
    });
    const ns = BigInt(Math.max(0, Math.ceil(timeoutMs * 1e6)));
    this.#timeout[0] = ns / 1_000_000_000n;
    this.#timeout[1] = ns % 1_000_000_000n;
    // A failure can only be EINTR here: nothing is ready then.
    const ready = this.#libc.ppoll(
      new Uint8Array(this.#fds.buffer),
      BigInt(fds.length),
      new Uint8Array(this.#timeout.buffer),
      null,
    );
    return fds.map((_, i) => ready > 0 && this.#fds.getInt16(i * 8 + 6, true) !== 0);
  }
}
