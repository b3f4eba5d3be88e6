/**
 * Finds the descriptor behind a `Deno.TcpConn`, which no public API gives.
 *
 * A descriptor is taken only if both its addresses, asked from the kernel, are
 * those that Deno reports for the connection, and if it is a TCP socket. At any
 * time the kernel has at most one such connection, so this cannot find another.
 */

import { KernelCallError } from "../base/errors.ts";
import { TcpState } from "../base/ports.ts";
import { formatHostPort } from "../base/remote.ts";
import {
  AF_INET,
  errnoName,
  IPPROTO_TCP,
  SO_ERROR,
  SO_TYPE,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_STREAM,
  SOL_SOCKET,
  TCP_INFO,
} from "./constants.ts";
import {
  decodeSockaddr,
  type Endpoint,
  isIpv4,
  parseIpAddress,
  sameEndpoint,
  SOCKADDR_BYTES,
} from "./ip_address.ts";
import { closeDescriptor, getSocketInt, libc } from "./libc.ts";
import { POLLNVAL } from "./socket_reader.ts";

const F_DUPFD_CLOEXEC = 1030;
const SO_ACCEPTCONN = 30;
const SO_COOKIE = 57;

/**
 * Where the scan ends. `/proc/self/fd` would say exactly which descriptors are
 * open, but needs every Deno permission; poll says it of many with one call.
 */
const MAX_DESCRIPTOR = 65_536;

/** So many are asked for one by one (0.3 µs each), as most processes have fewer. */
const ASKED_SINGLY = 64;
/** So many are asked for together, or fewer: poll takes no more than the process may have open. */
const ASKED_TOGETHER = 1024;

/** How many descriptors from the hint on are looked at before the full scan. */
const NEAR_HINT = 16;

/** One end of a connection, as Deno reports it. */
export interface ReportedEnd {
  /** The IP address as text, perhaps with a zone. */
  readonly hostname: string;
  readonly port: number;
}

export interface ConnectionAddresses {
  readonly localAddr: ReportedEnd;
  readonly remoteAddr: ReportedEnd;
}

/** Both ends of a connection, as the kernel names them. */
export interface ConnectionEnds {
  readonly local: Endpoint;
  readonly remote: Endpoint;
}

/** A descriptor of Deno's. */
export interface FoundDescriptor extends ConnectionEnds {
  /** Nobody else may close it, and once Deno has, it is somebody else's. */
  readonly fd: number;
}

export type DescriptorSearch =
  | ConnectionEnds & {
    readonly kind: "found";
    /** A duplicate of its descriptor, close-on-exec; the caller closes it. */
    readonly fd: number;
  }
  | {
    /** It died since it was made: the kernel has forgotten its peer. */
    readonly kind: "dead";
    /** Its pending error, for example `"ECONNRESET"`, unless somebody else was told. */
    readonly errorName: string | undefined;
  };

/** A socket for its number alone, which the caller closes; negative: there may be no more. */
function spareSocket(): number {
  return libc().socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

/**
 * The lowest free descriptor, which the next socket of this process will most
 * likely get; `undefined`: the process has as many as it may.
 */
export function nextDescriptorHint(): number | undefined {
  const fd = spareSocket();
  if (fd < 0) return undefined;
  closeDescriptor(fd);
  return fd;
}

/**
 * Whether this process may open so many descriptors more: what strangers take must not be missing
 * where packets are delivered and stored. Costs 2 µs a descriptor. True also where the C library is
 * not granted, and nobody can tell.
 */
export function hasSpareDescriptors(count: number): boolean {
  const opened: number[] = [];
  try {
    while (opened.length < count) {
      const fd = spareSocket();
      if (fd < 0) return false;
      opened.push(fd);
    }
    return true;
  } catch (error) {
    if (error instanceof KernelCallError) throw error;
    return true;
  } finally {
    for (const fd of opened) closeDescriptor(fd);
  }
}

/**
 * Finds a connection's descriptor and duplicates it: the duplicate keeps the
 * kernel's counters readable after Deno has closed its own.
 *
 * @param hint From `nextDescriptorHint`; only speed depends on it.
 * @throws {KernelCallError} Not among the first 65,536 descriptors, or it could
 *   not be duplicated.
 */
export function duplicateDescriptor(conn: ConnectionAddresses, hint: number): DescriptorSearch {
  const reader = new AddressReader();
  const found = search(conn, hint, reader);
  if (found !== undefined) {
    const fd = duplicate(found.fd, (copy) => hasEnds(copy, found, reader));
    return { kind: "found", ...found, fd };
  }
  const dead = findDead(conn, hint, reader);
  if (dead !== undefined) {
    const errno = getSocketInt(dead, SOL_SOCKET, SO_ERROR);
    return { kind: "dead", errorName: errno ? errnoName(errno) : undefined };
  }
  if (!reader.works) throw refused("getsockname");
  throw new KernelCallError(
    "getpeername",
    `None of the first ${MAX_DESCRIPTOR} descriptors belongs to the connection from ` +
      `${formatHostPort(conn.localAddr.hostname, conn.localAddr.port)} to ` +
      `${formatHostPort(conn.remoteAddr.hostname, conn.remoteAddr.port)}, ` +
      `so its Send-Q cannot be read. It was not used.`,
  );
}

/**
 * Finds a connection's descriptor and leaves it as it is.
 *
 * @param conn Its ends. This one may be `0.0.0.0` or `::`, as a listener reports it: then
 *   the port and the other end decide.
 * @param hint Where to look first; only speed depends on it.
 * @returns `undefined`: no descriptor has these ends. A connection that died has none,
 *   either: the kernel has forgotten its peer.
 * @throws {KernelCallError} The kernel refuses the calls that it takes.
 */
export function findDescriptor(
  conn: ConnectionAddresses,
  hint: number,
): FoundDescriptor | undefined {
  const reader = new AddressReader();
  const found = search(conn, hint, reader);
  if (found !== undefined) return found;
  if (!readsOwnAddresses(reader)) throw refused("getsockname");
  if (!reader.readsPeers) findDead(conn, hint, reader); // For the refusal that it may find.
  return undefined;
}

/** Asked of a socket that is there for certain: of the one that is looked for it is not known. */
function readsOwnAddresses(reader: AddressReader): boolean {
  const fd = spareSocket();
  if (fd < 0) return true; // Too many open files: nobody can tell.
  try {
    return reader.own(fd) !== undefined;
  } finally {
    closeDescriptor(fd);
  }
}

/**
 * A dead socket keeps its own address but has forgotten its peer's.
 *
 * @throws {KernelCallError} It lives, so that getpeername must have been refused.
 */
function findDead(
  conn: ConnectionAddresses,
  hint: number,
  reader: AddressReader,
): number | undefined {
  const local = endpointOf(conn.localAddr);
  for (const fd of searchOrder(hint)) {
    const own = reader.own(fd);
    if (own === undefined || !sameEndpoint(own, local)) continue;
    if (!isTcp(fd) || reader.peer(fd) !== undefined || isListening(fd)) continue;
    if (isAlive(fd)) throw refused("getpeername");
    return fd;
  }
  return undefined;
}

function search(
  conn: ConnectionAddresses,
  hint: number,
  reader: AddressReader,
): FoundDescriptor | undefined {
  const local = endpointOf(conn.localAddr);
  const remote = endpointOf(conn.remoteAddr);
  const anyAddress = isUnspecified(local.address);
  for (const fd of searchOrder(hint)) {
    if (!reader.hasPorts(fd, local.port, remote.port)) continue;
    const [peer, own] = [reader.peer(fd), reader.own(fd)];
    if (peer === undefined || !sameEndpoint(peer, remote)) continue;
    if (own === undefined || !isTcp(fd)) continue;
    if (anyAddress ? own.port !== local.port : !sameEndpoint(own, local)) continue;
    return { fd, remote: peer, local: own };
  }
  return undefined;
}

/** Whether any number is the descriptor of a living connection between these two ends. */
export function hasEnds(
  fd: number,
  ends: ConnectionEnds,
  reader: AddressReader = new AddressReader(),
): boolean {
  const [peer, own] = [reader.peer(fd), reader.own(fd)];
  return peer !== undefined && own !== undefined && sameEndpoint(peer, ends.remote) &&
    sameEndpoint(own, ends.local);
}

/**
 * Duplicates a descriptor, close-on-exec; the caller closes it.
 *
 * @param isTwin Whether a descriptor is the same connection's: a call that says yes and does
 *   nothing gives 0, which is somebody else's.
 * @throws {KernelCallError} It could not be duplicated.
 */
export function duplicate(fd: number, isTwin: (copy: number) => boolean): number {
  const copy = libc().fcntl(fd, F_DUPFD_CLOEXEC, 0n);
  if (copy >= 0 && isTwin(copy)) return copy;
  throw new KernelCallError(
    "fcntl(F_DUPFD_CLOEXEC)",
    "The connection's descriptor could not be duplicated, most likely because the process " +
      "has as many open as it may: raise the limit of open files (ulimit -n). A sandbox that " +
      "forbids fcntl(F_DUPFD_CLOEXEC) does the same.",
  );
}

/**
 * The number that the kernel gives a socket for its life and to no other one
 * (SO_COOKIE, Linux 4.12): a descriptor's number is used again, this is not.
 *
 * @returns `undefined`: no socket, or the kernel does not know the option.
 */
export function socketCookie(fd: number): bigint | undefined {
  cookieLength[0] = cookie.byteLength;
  const code = libc().getsockopt(fd, SOL_SOCKET, SO_COOKIE, cookie, cookieLength);
  return code === 0 && cookieLength[0] === cookie.BYTES_PER_ELEMENT ? cookie[0] : undefined;
}

// Asked with every reading: one buffer for all, twice the size as in getSocketInt.
const cookie = new BigUint64Array(2);
const cookieLength = new Uint32Array(1);

function refused(call: string): KernelCallError {
  return new KernelCallError(
    call,
    `The kernel refuses ${call}, as a sandbox may (seccomp, gVisor): the connection's descriptor ` +
      `cannot be found, nor its Send-Q be read. Permit the call.`,
  );
}

/** Every descriptor of this process that is open, from this one on; all where poll says nothing. */
export function* openDescriptors(first = 0): Generator<number> {
  let count = ASKED_TOGETHER;
  for (let fd = first; fd < MAX_DESCRIPTOR;) {
    const open = openOnes(fd, count);
    if (open !== undefined) {
      yield* open;
      fd += count;
    } else if (count > 1) count /= 2;
    else yield fd++;
  }
}

function* searchOrder(hint: number): Generator<number> {
  for (let fd = hint; fd < hint + NEAR_HINT; fd++) yield fd;
  for (let fd = 0; fd < ASKED_SINGLY; fd++) yield fd;
  yield* openDescriptors(ASKED_SINGLY);
}

/** Which of these descriptors are open; `undefined`: poll refuses to say it of so many. */
function openOnes(first: number, count: number): number[] | undefined {
  const asked = new Int32Array(2 * count); // struct pollfd { int fd; short events, revents; }
  for (let i = 0; i < count; i++) asked[2 * i] = first + i;
  if (libc().poll(new Uint8Array(asked.buffer), BigInt(count), 0) < 0) return undefined;
  const open = [];
  for (let i = 0; i < count; i++) {
    const revents = (asked[2 * i + 1] ?? 0) >>> 16; // Little-endian: it is the upper half.
    if ((revents & POLLNVAL) === 0) open.push(first + i);
  }
  return open;
}

/** `0.0.0.0`, `::`. */
function isUnspecified(address: Uint8Array): boolean {
  return address.every((byte, index) => byte === 0 || (isIpv4(address) && index < 12));
}

/** getpeername and getsockname with one buffer for all descriptors. */
class AddressReader {
  /** More than any answer fills: a length that was not touched tells of a call that did nothing. */
  readonly #bytes = new Uint8Array(2 * SOCKADDR_BYTES);
  readonly #length = new Uint32Array(1);
  readsPeers = false;
  /** Whether getsockname has ever given an address: a socket has one, dead or alive. */
  works = false;

  /** Whether these may be its ports: tells nearly all others without decoding an address. */
  hasPorts(fd: number, own: number, peer: number): boolean {
    const bytes = this.#bytes;
    this.#length[0] = bytes.byteLength;
    if (libc().getpeername(fd, bytes, this.#length) !== 0) return false;
    this.readsPeers = true;
    if (this.#port !== peer) return false;
    this.#length[0] = bytes.byteLength;
    return libc().getsockname(fd, bytes, this.#length) === 0 && this.#port === own;
  }

  /** In the same place for IPv4 and IPv6, in network order. */
  get #port(): number {
    return ((this.#bytes[2] ?? 0) << 8) | (this.#bytes[3] ?? 0);
  }

  /** The other end; `undefined`: none, or no socket. */
  peer(fd: number): Endpoint | undefined {
    this.#length[0] = this.#bytes.byteLength;
    return this.#decode(libc().getpeername(fd, this.#bytes, this.#length));
  }

  /** This end; `undefined`: no socket. */
  own(fd: number): Endpoint | undefined {
    this.#length[0] = this.#bytes.byteLength;
    const address = this.#decode(libc().getsockname(fd, this.#bytes, this.#length));
    this.works ||= address !== undefined;
    return address;
  }

  #decode(code: number): Endpoint | undefined {
    const length = this.#length[0];
    return code === 0 && length !== this.#bytes.byteLength
      ? decodeSockaddr(this.#bytes, length ?? 0)
      : undefined;
  }
}

function endpointOf({ hostname, port }: ReportedEnd): Endpoint {
  const address = parseIpAddress(hostname);
  if (address === undefined) {
    throw new KernelCallError("getpeername", `Deno reports ${hostname}, which is no IP address.`);
  }
  return { address, port, scopeId: 0 };
}

/**
 * A UDP socket may have the same addresses. Not told by TCP_INFO: where that is
 * refused, the reading after this says so, and it must be named.
 */
function isTcp(fd: number): boolean {
  const type = getSocketInt(fd, SOL_SOCKET, SO_TYPE);
  return type === undefined || type === SOCK_STREAM;
}

function isListening(fd: number): boolean {
  return getSocketInt(fd, SOL_SOCKET, SO_ACCEPTCONN) === 1;
}

function isAlive(fd: number): boolean {
  const state = new Uint8Array(1); // getsockopt copies what fits; the state comes first.
  const length = new Uint32Array([1]);
  const code = libc().getsockopt(fd, IPPROTO_TCP, TCP_INFO, state, length);
  return code === 0 && state[0] !== 0 && state[0] !== TcpState.CLOSE;
}
