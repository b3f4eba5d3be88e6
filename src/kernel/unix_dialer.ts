/**
 * Connects to Unix sockets with `Deno.connect`, so that `--allow-net` holds, and finds the
 * descriptor behind each connection.
 */

import {
  KernelCallError,
  OptionError,
  SocketOptionError,
  WireError,
  wireError,
} from "../base/errors.ts";
import type { Clock, Dialer } from "../base/ports.ts";
import { checkUnixPath } from "../base/remote.ts";
import { AF_UNIX, SO_DOMAIN, SO_SNDBUF, SO_TYPE, SOCK_STREAM, SOL_SOCKET } from "./constants.ts";
import { duplicate, openDescriptors, socketCookie } from "./descriptor.ts";
import { closeDescriptor, getSocketInt, libc, loadLibc, setSocketInt } from "./libc.ts";
import { checkSocketOptions, type SocketOptions } from "./socket_options.ts";
import { type UnixPeer, UnixWire } from "./unix_wire.ts";
import { toWireError } from "./wire_error.ts";

const SO_PEERCRED = 17;
/** `sa_family` alone: what an unnamed socket's address consists of (unix(7)). */
const UNNAMED_BYTES = 2;

export interface UnixDialerOptions {
  /** The socket's file, at most 107 bytes. */
  readonly path: string;
  /** Of these `sendBufferBytes` alone means something here. */
  readonly socket?: SocketOptions;
  readonly libc?: string;
  /** To tell who has stalled. */
  readonly clock: Clock;
}

export interface UnixDialer extends Dialer {
  dial(signal: AbortSignal, onLookedUp?: () => void): Promise<UnixWire>;
}

/**
 * A dialer for one server on this host. Loads the C library, so that what is missing is
 * said before anything is connected.
 *
 * @throws {OptionError} An option of the socket is out of range, or means nothing here.
 * @throws {TypeError} The path is none that a socket can have.
 * @throws {UnsupportedPlatformError} Not Linux on x86_64 or aarch64.
 * @throws {Deno.errors.NotCapable} `--allow-ffi` lacks the C library's path.
 */
export function unixDialer(
  { path, socket = {}, libc: libcPath, clock }: UnixDialerOptions,
): UnixDialer {
  checkUnixPath(path);
  checkOptionsOfUnix(socket);
  loadLibc(libcPath);
  const remote = `unix:${path}`;
  return {
    remote,
    async dial(signal, onLookedUp) {
      signal.throwIfAborted();
      onLookedUp?.();
      const { conn, fd } = await connectAlone(path, signal);
      const { sendBufferBytes: bytes } = socket;
      if (bytes !== undefined && !setSocketInt(fd, SOL_SOCKET, SO_SNDBUF, bytes)) {
        conn.close();
        closeDescriptor(fd);
        throw new SocketOptionError("sendBufferBytes", bytes, "leave it out");
      }
      return new UnixWire(conn, fd, { remote, peer: peerOf(fd), clock });
    },
  };
}

/** What is asked for and cannot be had. Nothing is delayed here, and nothing probed. */
function checkOptionsOfUnix(socket: SocketOptions): void {
  checkSocketOptions(socket);
  const { sendBufferBytes: _, noDelay, keepAlive, ...others } = socket;
  const asked = {
    ...(noDelay === false ? { noDelay } : {}),
    ...(keepAlive && Object.keys(keepAlive).length > 0 ? { keepAlive } : {}),
    ...others,
  };
  for (const [option, value] of Object.entries(asked)) {
    if (value === undefined) continue;
    throw new OptionError(option, value, "means nothing for a unix: remote: leave it out");
  }
}

interface Connected {
  readonly conn: Deno.UnixConn;
  /** A duplicate of its descriptor. */
  readonly fd: number;
}

/** The last attempt of this process: while one is made, no other may open a socket. */
let lastAttempt: Promise<unknown> = Promise.resolve();

/** All connections to one path look alike: ours is the one that was not there before. */
function connectAlone(path: string, signal: AbortSignal): Promise<Connected> {
  const attempt = lastAttempt.then(() => connect(path, signal));
  lastAttempt = attempt.catch(() => {});
  return attempt;
}

async function connect(path: string, signal: AbortSignal): Promise<Connected> {
  signal.throwIfAborted();
  const before = new Set(clientSockets().values());
  let conn: Deno.UnixConn;
  try {
    conn = await Deno.connect({ transport: "unix", path });
  } catch (error) {
    throw describeFailure(error, path);
  }
  try {
    signal.throwIfAborted();
    return { conn, fd: duplicateNew(before, path) };
  } catch (error) {
    conn.close(); // Nothing was written.
    throw error;
  }
}

/** @throws {WireError} Not exactly one socket is new, so that nobody knows which is ours. */
function duplicateNew(before: ReadonlySet<bigint>, path: string): number {
  const fresh = [...clientSockets()].filter(([, cookie]) => !before.has(cookie));
  const [only, another] = fresh;
  if (only === undefined) {
    throw new KernelCallError(
      "getsockopt(SO_COOKIE)",
      `The descriptor of the connection to unix:${path} was not found, so its Send-Q cannot be ` +
        `read. It was not used. A sandbox may refuse SO_COOKIE, SO_DOMAIN, getsockname or ` +
        `getpeername (seccomp, gVisor): permit them.`,
    );
  }
  if (another !== undefined) {
    throw new WireError(
      "EAGAIN",
      `another part of this program connected to a Unix socket at the same moment, so that it ` +
        `cannot be told which descriptor is whose; the connection is made anew`,
    );
  }
  const [fd, cookie] = only;
  return duplicate(fd, (copy) => socketCookie(copy) === cookie);
}

/**
 * The stream sockets of this process that have connected to a Unix socket, each with the
 * number that no other socket ever has. One that was accepted has a name, and its peer none.
 */
function clientSockets(): Map<number, bigint> {
  const found = new Map<number, bigint>();
  for (const fd of openDescriptors()) {
    if (getSocketInt(fd, SOL_SOCKET, SO_DOMAIN) !== AF_UNIX) continue;
    if (getSocketInt(fd, SOL_SOCKET, SO_TYPE) !== SOCK_STREAM) continue;
    if (nameBytes(libc().getsockname, fd) !== UNNAMED_BYTES) continue;
    if ((nameBytes(libc().getpeername, fd) ?? 0) <= UNNAMED_BYTES) continue;
    const cookie = socketCookie(fd);
    if (cookie !== undefined) found.set(fd, cookie);
  }
  return found;
}

/** How long a socket's name is; `undefined`: it has none of that kind. */
function nameBytes(
  call: (fd: number, address: Uint8Array<ArrayBuffer>, length: Uint32Array<ArrayBuffer>) => number,
  fd: number,
): number | undefined {
  // One more than struct sockaddr_un: a length that was not touched tells of a call that did nothing.
  const address = new Uint8Array(112);
  const length = new Uint32Array([address.byteLength]);
  if (call(fd, address, length) !== 0 || length[0] === address.byteLength) return undefined;
  return length[0];
}

/** Who listens there, as the kernel noted it at listen(2). */
function peerOf(fd: number): UnixPeer | undefined {
  const credentials = new Int32Array(4); // struct ucred { pid, uid, gid }, and one that stays free
  const length = new Uint32Array([credentials.byteLength]);
  const code = libc().getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials, length);
  const [processId, userId] = credentials;
  if (code !== 0 || length[0] !== 12 || processId === undefined || userId === undefined) {
    return undefined;
  }
  return { processId, userId };
}

/** Says in words why an attempt failed; a missing permission stays what it is. */
function describeFailure(error: unknown, path: string): unknown {
  if (error instanceof Deno.errors.NotCapable) return error;
  const failure = toWireError(error);
  const words = failureWords(failure.code, path);
  return words === undefined ? failure : wireError(failure.code, words, error);
}

function failureWords(code: string, path: string): string | undefined {
  switch (code) {
    case "ENOENT":
    case "ENOTDIR":
      return `there is no ${path}: its server is not running, or listens somewhere else`;
    case "ECONNREFUSED":
      return isSocket(path)
        ? `nobody listens on ${path}: its server has ended and left the socket behind`
        : `${path} is no socket: name the one that the server listens on`;
    case "EAGAIN":
      return `the server on ${path} accepts no connections at present: as many as it lets wait ` +
        `are waiting`;
    case "EACCES":
    case "EPERM":
      return `this user may not connect to ${path}: it needs the right to write to the socket, ` +
        `and to pass through each directory on the way`;
    case "EPROTOTYPE":
      return `${path} is a socket for datagrams or packets, and sendq needs one for a stream ` +
        `(SOCK_STREAM)`;
    case "EMFILE":
      return "too many open files: raise the limit (ulimit -n, LimitNOFILE=)";
    default:
      return undefined;
  }
}

function isSocket(path: string): boolean {
  try {
    return Deno.statSync(path).isSocket === true;
  } catch {
    return true; // Gone meanwhile, or not to be read: then the kernel's word stands.
  }
}
