/**
 * Numbers of the Linux kernel's interface that more than one file needs. They
 * are the same on x86_64 and aarch64 (kernel_facts, section 11).
 */

export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
// Or'ed to the socket type.
export const SOCK_NONBLOCK = 0x800;
export const SOCK_CLOEXEC = 0x80000;

export const SOL_SOCKET = 1;
export const SO_TYPE = 3;
/** Reads and clears the pending error. */
export const SO_ERROR = 4;
export const SO_SNDBUF = 7;
/** What a close does; a `struct linger { int l_onoff, l_linger }`. */
export const SO_LINGER = 13;
export const SO_BINDTODEVICE = 25;
export const SO_MARK = 36;
export const SO_DOMAIN = 39;

/** A level for getsockopt and setsockopt. */
export const IPPROTO_TCP = 6;
export const TCP_INFO = 11;

/** Names of the errno values that a socket, a route or a connection attempt can end with. */
const ERRNO_NAMES: Readonly<Record<number, string>> = {
  1: "EPERM",
  2: "ENOENT",
  4: "EINTR",
  5: "EIO",
  6: "ENXIO",
  9: "EBADF",
  11: "EAGAIN",
  12: "ENOMEM",
  13: "EACCES",
  19: "ENODEV",
  20: "ENOTDIR",
  22: "EINVAL",
  24: "EMFILE",
  25: "ENOTTY",
  32: "EPIPE",
  64: "ENONET",
  71: "EPROTO",
  88: "ENOTSOCK",
  90: "EMSGSIZE",
  91: "EPROTOTYPE",
  92: "ENOPROTOOPT",
  95: "EOPNOTSUPP",
  98: "EADDRINUSE",
  99: "EADDRNOTAVAIL",
  100: "ENETDOWN",
  101: "ENETUNREACH",
  102: "ENETRESET",
  103: "ECONNABORTED",
  104: "ECONNRESET",
  105: "ENOBUFS",
  106: "EISCONN",
  107: "ENOTCONN",
  108: "ESHUTDOWN",
  110: "ETIMEDOUT",
  111: "ECONNREFUSED",
  112: "EHOSTDOWN",
  113: "EHOSTUNREACH",
  114: "EALREADY",
  115: "EINPROGRESS",
};

/**
 * The name of an errno value that the kernel wrote into a buffer (SO_ERROR, a
 * netlink answer). Never the thread's `errno`, which does not survive FFI.
 *
 * @returns For example `"ECONNRESET"`; `"E<number>"` for one without a name here.
 */
export function errnoName(errno: number): string {
  return ERRNO_NAMES[errno] ?? `E${errno}`;
}
