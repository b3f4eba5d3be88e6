/**
 * The system calls that fail, and how.
 *
 * @module
 */

/** A kind of call. */
export interface Kind {
  readonly name: string;
  readonly call: string;
  /** What the call fails with, each in runs of its own. */
  readonly errnos: readonly string[];
  /** Whether only calls on the queue's files are looked at. */
  readonly onFiles: boolean;
  /** Which of them concern us, by how strace prints their arguments; the others are counted, too. */
  readonly ours: RegExp;
}

const onFiles = (name: string, call: string, errnos: readonly string[], ours = /^/): Kind => ({
  name,
  call,
  errnos,
  onFiles: true,
  ours,
});
/** By default: whose first argument is a socket. */
const onSockets = (
  name: string,
  call: string,
  errnos: readonly string[],
  ours = /^\d+<(?:socket|TCP|NETLINK)/,
): Kind => ({ name, call, errnos, onFiles: false, ours });

/** What Deno needs to come up is left alone: its failure shows nothing about the queue. */
export const KINDS: readonly Kind[] = [
  onFiles("openat", "openat", ["EMFILE", "EACCES"]),
  onFiles("statx", "statx", ["EIO"]),
  onFiles("pread", "pread64", ["EIO"]),
  onFiles("pwrite", "pwrite64", ["EIO", "ENOSPC"]),
  // The lock file: its reserve, and what `status` reads.
  onFiles("write", "write", ["EIO", "ENOSPC"]),
  // Which of the two SQLite calls depends on how it was built.
  onFiles("fdatasync", "fdatasync", ["EIO"]),
  onFiles("fsync", "fsync", ["EIO"]),
  onFiles("ftruncate", "ftruncate", ["EIO"]),
  onFiles("unlink", "unlink", ["EIO"]),
  onFiles("mmap", "mmap", ["ENOMEM"]),
  // SQLite's locks as they are taken. That a kernel cannot unlock is left out: SQLite does
  // not look, waits for itself 10 s at each reading, and the end takes more than a minute.
  onFiles("lock", "fcntl", ["ENOLCK"], /F_SETLKW?, \{l_type=F_(?:RD|WR)LCK/),
  // The sender's lock.
  onFiles("flock", "flock", ["ENOLCK"]),
  onSockets("dup", "fcntl", ["EMFILE"], /^\d+<(?:socket|TCP).*F_DUPFD_CLOEXEC/),
  onSockets("socket", "socket", ["EMFILE"], /^AF_(?:INET|NETLINK)/),
  onSockets("connect", "connect", ["ENETUNREACH"]),
  onSockets("sendto", "sendto", ["EIO", "ENOBUFS"]),
  onSockets("recvfrom", "recvfrom", ["EIO"]),
  onSockets("getsockopt", "getsockopt", ["EINVAL"]),
  onSockets("setsockopt", "setsockopt", ["ENOPROTOOPT"]),
  onSockets("shutdown", "shutdown", ["ENOTCONN"]),
  onSockets("ioctl", "ioctl", ["EINVAL"]),
  onSockets("poll", "poll", ["EINTR", "EINVAL"], /^\[\{fd=\d+<(?:socket|TCP)/),
];

/** The n-th call of a kind that fails. */
export interface Anomaly {
  readonly kind: Kind;
  /** Counted in each thread, from 1. */
  readonly n: number;
  readonly errno: string;
  /** Whether every later one fails, too. */
  readonly persistent: boolean;
}

/** strace's arguments that trace a kind on these files. */
export function traceArgs({ call, onFiles }: Kind, files: readonly string[]): string[] {
  const paths = onFiles ? files.flatMap((file) => ["-P", file]) : [];
  return ["-f", "-qq", "-y", "--seccomp-bpf", "-e", `trace=${call}`, "-e", "signal=none", ...paths];
}

/** strace's arguments that make a call fail. */
export function injectArgs({ kind, n, errno, persistent }: Anomaly): string[] {
  return ["-e", `inject=${kind.call}:error=${errno}:when=${n}${persistent ? "+" : ""}`];
}

/** One call that concerns us. */
export interface TracedCall {
  /** Which call of its thread it was, from 1. */
  readonly n: number;
  /** As strace prints it. */
  readonly line: string;
}

/** The calls of a kind that concern us, in all threads. */
export function callsIn({ call, ours }: Kind, trace: string): TracedCall[] {
  const counts = new Map<string, number>();
  const calls: TracedCall[] = [];
  for (const line of trace.split("\n")) {
    const [, thread = "", name, args = ""] = /^(\d+) +(\w+)\((.*)/.exec(line) ?? [];
    if (name !== call) continue;
    const n = (counts.get(thread) ?? 0) + 1;
    counts.set(thread, n);
    if (ours.test(args)) calls.push({ n, line });
  }
  return calls;
}
